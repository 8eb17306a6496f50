"""The main job as a demo: classify messages and answer questions over documents, for three tenants, with its books."""
