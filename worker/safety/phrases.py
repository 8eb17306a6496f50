"""The rules' patterns: what an untrusted text says when it speaks to the model. All over folded text.

Folded text is NFKC, lower case, without accents and with single spaces, so the patterns are too. No pattern nests
repetitions and every gap has a bound: matching is linear in the text. Before each pattern stand its hints: a text
without any of them cannot match, and looking for them is what makes a scan fast (a test generates matches and looks
for the hints in them).
"""

from __future__ import annotations

Phrase = tuple[tuple[str, ...], str]

IGNORE = (
    r"(?:ignor(?:e|es|ed|ing)|disregard(?:ing|ed)?|forget|overrid(?:e|ing)|overrule|overlook|bypass|neglect|dismiss"
    r"|supersede|(?:do not|don't|stop|cease|quit) (?:follow|obey|heed)(?:ing)?|pay no attention to|set aside)"
)
IGNORE_HINTS = (
    *(
        "ignor",
        "disregard",
        "forget",
        "overrid",
        "overrul",
        "overlook",
        "bypass",
        "neglect",
        "dismiss",
        "supersede",
    ),
    *(
        f"{stop} {follow}"
        for stop in ("not", "don't", "stop", "cease", "quit")
        for follow in ("follow", "obey", "heed")
    ),
    *("pay no attention", "set aside"),
)
EARLIER = r"(?:previous(?:ly)?|prior|preceding|foregoing|earlier|above|former|existing|original|initial|past)"
ORDERS = (
    r"(?:instructions?|prompts?|directions?|directives?|guidelines?|guidance|commands?|orders?|rules|constraints"
    r"|programming|conversation|context|inputs?|tasks?|training|info|information|requests?)"
)
OTHERS = r"(?:all|any|every|each)(?: of)?(?: the| your| my| these| those)?(?: other)?"
MODEL = r"(?:an? |the |any |all )?(?:ai|llms?|(?:large )?language models?|chat ?bots?|gpt|chatgpt)"
MODEL_HINTS = ("ai", "llm", "language model", "chatbot", "chat bot", "gpt")
ADDRESS = r"(?:[\w.+-]{1,64}@[\w-]{1,63}\.[a-z]{2,10}|https?://[\w.-]{3,200}|www\.[\w.-]{3,200})"
ANSWER = r"(?:answers?|responses?|replies|reply|outputs?|summary|summaries|completion)"
ANSWER_HINTS = tuple(
    f"your {word}" for word in ("answer", "response", "repl", "output", "summar", "completion", "final ")
)
SECRETS = (
    r"(?:passwords?|passphrases?|credentials?|secrets?|api[ _-]?keys?|(?:access|auth|session) tokens?|private keys?"
    r"|ssh keys?|cookies?|credit card|bank details|conversation|chat history|system prompt)"
)
RECORDS = r"(?:data|details|information|files?|histor(?:y|ies)|records?|contents?|summary|list|results?|it|them|this)"
SEND = r"(?:send|e-?mail|mail|forward|post|upload|share|transmit|exfiltrate|leak|submit|deliver)(?:ing|s)?"
ADDRESS_HINTS = ("@", "://", "www.")
URGENT = (
    r"(?:urgent(?:ly)?|immediate(?:ly)?|crucial|critical|paramount|pivotal|vital|utmost|imperative|undivided"
    r"|top priority|pressing|mission-critical|without delay)"
)

OVERRIDE: tuple[Phrase, ...] = (
    (IGNORE_HINTS, rf"\b{IGNORE}\b[^.!?]{{0,30}}?\b{EARLIER}\b[^.!?]{{0,20}}?\b{ORDERS}\b"),
    (
        IGNORE_HINTS,
        rf"\b{IGNORE}\b (?:{OTHERS} |the |your |my |these |those )?{ORDERS} (?:above|before|prior|so far|given"
        r"|you (?:were|have|had|got|received)|until now|up to now|from (?:the|your) )",
    ),
    (IGNORE_HINTS, rf"\b{IGNORE}\b {OTHERS} (?:instructions|prompts|directives|guidelines|commands)\b"),
    (
        IGNORE_HINTS,
        rf"\b{IGNORE}\b (?:all|everything|anything) (?:\w+ ){{0,3}}?(?:above|before (?:this|that|now)|previously)\b",
    ),
    (IGNORE_HINTS, rf"\b{IGNORE}\b (?:all )?(?:of )?the above(?: and|,|\.|:|;|$)"),
    (
        IGNORE_HINTS,
        rf"\b{IGNORE}\b (?:your|the) (?:system prompt|programming|training|safety (?:rules|guidelines|training))\b",
    ),
    (
        (
            "task above",
            "task before",
            "tasks above",
            "tasks before",
            "instructions above",
            "instructions before",
        ),
        r"\b(?:drop|abandon|stop|halt|cancel) (?:all |any )?(?:the |your )?(?:tasks?|instructions) (?:above|before)\b",
    ),
    (
        ("null", "void", "irrelevant", "secondary", "obsolete", "cancel"),
        r"\b(?:all|every|any) other (?:instructions?|guidelines?|commands?|tasks?|orders?|directives?|advice)"
        r" (?:is|are|as|to be|can be|becomes?)(?: now)? (?:null|void|irrelevant|secondary|obsolete|cancell?ed)\b",
    ),
)

# Override phrases by language, in folded form: Spanish, French, German, Italian, Portuguese, Dutch, Polish, Romanian,
# Turkish, Vietnamese, Russian, Ukrainian, Greek, Arabic, Hindi, Thai, Chinese, Japanese, Korean, Indonesian.
OVERRIDE_ELSEWHERE: tuple[Phrase, ...] = (
    (
        ("instruccion", "ordenes", "indicaciones", "reglas", "directrices"),
        r"\b(?:ignor|olvid|descart|omit)\w{1,5} (?:\w+ ){0,3}?"
        r"(?:(?:instruccion(?:es)?|ordenes|indicaciones|reglas|directrices)\b(?: \w+){0,2} (?:anterior|previ|de arriba)"
        r"|(?:anteriores|previas) (?:instrucciones|ordenes|indicaciones)\b)",
    ),
    (
        ("precedent", "ci-dessus", "anterieur", "plus haut"),
        r"\b(?:ignor|oubli|neglig)\w{1,4} (?:\w+ ){0,3}?(?:instructions|consignes|directives|ordres|regles)\b"
        r"(?: \w+){0,3} (?:precedent|ci-dessus|anterieur|plus haut)",
    ),
    (
        ("compte",),
        r"\bne ten(?:ez|ir|ons) (?:pas|aucun) compte (?:\w+ ){0,3}?(?:instructions|consignes|directives)\b",
    ),
    (
        ("vorherig", "vorig", "vorangegangen", "bisherig", "obig", "fruher"),
        r"\b(?:ignorier|vergiss|vergess|missacht|uberge)\w{0,3} (?:sie )?(?:\w+ ){0,3}?"
        r"(?:vorherig|vorig|vorangegangen|bisherig|obig|fruher)\w{0,3} (?:\w+ )?"
        r"(?:anweisung|instruktion|befehl|vorgab|auftrag|auftrage|aufgab|regeln|text|prompt)",
    ),
    (
        ("vergiss alle", "vergessen sie alle"),
        r"\b(?:vergiss|vergessen sie) (?:alles|alle anweisungen)(?: was)? (?:davor|zuvor|vorher|bisher|oben)\b",
    ),
    (
        ("istruzioni", "indicazioni", "ordini", "direttive"),
        r"\b(?:ignor|dimentic|trascur)\w{1,5} (?:\w+ ){0,3}?(?:istruzioni|indicazioni|ordini|direttive)\b"
        r"(?: \w+){0,2} (?:precedent|sopra)",
    ),
    (
        ("instrucoes", "ordens", "orientacoes", "diretrizes", "comandos"),
        r"\b(?:ignor|esquec|desconsider)\w{1,4} (?:\w+ ){0,3}?(?:instrucoes|ordens|orientacoes|diretrizes|comandos)\b"
        r"(?: \w+){0,2} (?:anterior|previ|acima)",
    ),
    (
        ("negeer", "vergeet"),
        r"\b(?:negeer|vergeet) (?:\w+ ){0,3}?(?:vorige|eerdere|voorgaande|bovenstaande) (?:instructies|opdrachten)\b",
    ),
    (
        ("poprzedni", "wczesniejs", "powyzs"),
        r"\b(?:zignoruj|ignoruj|zapomnij|pomin)\w{0,3} (?:o )?(?:\w+ ){0,2}?(?:poprzedni|wczesniejs|powyzs)\w{1,4} "
        r"(?:instrukcj|polece|wytyczn)",
    ),
    (
        ("instructiuni",),
        r"\b(?:ignor|uita)\w{0,4} (?:\w+ ){0,2}?instructiuni\w{0,3} (?:\w+ )?(?:anterioare|precedente|de mai sus)\b",
    ),
    (
        ("onceki", "yukaridaki", "yukarıdaki"),
        r"\b(?:onceki|yukar[iı]daki) (?:\w+ )?(?:talimat|komut|yonerge)\w{0,8} (?:\w+ ){0,2}?"
        r"(?:yok say|unut|gormezden|dikkate alma)",
    ),
    (
        ("bo qua", "phot lo", "quen"),
        r"\b(?:bo qua|phot lo|quen) (?:\w+ ){0,3}?(?:huong dan|chi dan|lenh|yeu cau|chi thi) (?:\w+ ){0,2}?"
        r"(?:truoc|o tren|ben tren|tren)",
    ),
    (
        ("предыдущ", "прежни", "вышеуказан", "предшествующ"),
        r"\b(?:игнориру|проигнориру|забуд|не обраща)\w{0,4} (?:\w+ ){0,4}?"
        r"(?:предыдущ|прежни|вышеуказан|предшествующ)\w{1,5} (?:инструкци|указани|команд|задани|сообщени|правил)",
    ),
    (
        ("попередн", "вищевказан"),
        r"\b(?:ігнору|проігнору|забуд)\w{0,4} (?:\w+ ){0,3}?(?:попередн|вищевказан)\w{1,4} "
        r"(?:інструкці|вказівк|команд)",
    ),
    (
        ("προηγουμεν", "παραπανω"),
        r"\b(?:αγνοησ|ξεχασ)\w{0,5} (?:\w+ ){0,3}?(?:προηγουμεν|παραπανω)\w{0,4} (?:οδηγι|εντολ)",
    ),
    (
        ("السابقة", "أعلاه", "اعلاه"),
        r"(?:تجاهل|تجاهلي|انس|انسى) (?:\w+ ){0,2}?(?:التعليمات|الاوامر|الأوامر|الإرشادات|التوجيهات)(?: \w+){0,2} "
        r"(?:السابقة|أعلاه|اعلاه)",
    ),
    (
        ("निर्देश", "आदेश"),
        r"(?:पिछले|पिछली|पूर्व|उपरोक्त|ऊपर)[^.।]{0,24}(?:निर्देश|आदेश)[^.।]{0,24}(?:अनदेखा|नज़रअंदाज|नजरअंदाज|भूल|अनदेखी)",
    ),
    (
        ("คำสั่ง", "คำแนะนำ"),
        r"(?:เพิกเฉย|ละเว้น|ไม่ต้องสนใจ|ลืม|ละเลย)[^.]{0,24}(?:คำสั่ง|คำแนะนำ)[^.]{0,24}(?:ก่อน|ข้างต้น|ด้านบน)",
    ),
    (
        ("忽略", "无视", "無視", "忘记", "忘記", "忽視", "忽视", "理会", "理會"),
        r"(?:忽略|无视|無視|忘记|忘記|忽視|忽视|不要理会|不要理會)[^。!?]{0,8}"
        r"(?:之前|以前|先前|上面|以上|前面|上述|此前)[^。!?]{0,8}"
        r"(?:指令|指示|命令|提示|要求|说明|說明|规则|規則|内容|內容)",
    ),
    (
        ("無視", "忘れ"),
        r"(?:以前|これまで|前|上記|先|今まで)の[^。]{0,8}(?:指示|命令|プロンプト|指令|ルール)[^。]{0,8}(?:無視|忘れ)",
    ),
    (
        ("무시", "잊"),
        r"(?:이전|앞의|앞선|위의|기존)[^.]{0,10}(?:지시|명령|지침|프롬프트|안내)[^.]{0,10}(?:무시|잊)",
    ),
    (
        ("abaikan", "lupakan"),
        r"\b(?:abaikan|lupakan) (?:\w+ ){0,2}?(?:instruksi|perintah|petunjuk) (?:\w+ ){0,2}?(?:sebelum|di atas)",
    ),
)

ROLE_TOKEN: tuple[Phrase, ...] = (
    (
        ("<|",),
        r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|end|eot_id|start_header_id|end_header_id"
        r"|begin_of_text|fim_prefix|endofprompt)\|>",
    ),
    (
        ("inst]", "<sys>>", "</sys>>", "_of_turn>", "end of "),
        r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|<\|?end of (?:session|conversation|prompt|document)\|?>",
    ),
    (
        ("system",),
        r"\[/?system(?:[ _](?:prompt|message))?\]|</?system[ _-](?:prompt|message|instructions?)>",
    ),
    (
        ("#", "--", "=="),
        r"(?:#{2,8}|-{4,8}|={4,8}) ?(?:system|new instructions?|end of (?:document|context|input|prompt)) ?:",
    ),
)

NEW_ORDERS: tuple[Phrase, ...] = (
    (
        ("adhere", "follow", "obey", "execute", "comply", "act on"),
        r"\b(?:strictly |only |please )?(?:adhere to|follow|obey|execute|comply with|act on) (?:only )?"
        r"(?:the|these|this|my) (?:following|new|next) (?:instructions?|directives?|orders|commands?)\b ?[:.!]",
    ),
    (
        ("new ",),
        r"\b(?:your|here (?:is|are)|these are)(?: your)? new (?:primary |main |only )?"
        r"(?:task|instructions?|objective|directive|mission|goal|role|orders)(?: is| are|:)",
    ),
    (
        ("instruction", "directive"),
        r"\b(?:new|updated|revised|important|urgent|special|hidden|secret) (?:system )?(?:instructions?|directives?)"
        rf" (?:for|to) (?:{MODEL}|the assistant|assistants?|the model|the agent|agents)\b",
    ),
    (
        ("instead",),
        r"\binstead(?: of (?:that|this|answering|summari[sz]ing|doing)[^.!?]{0,40})?,? (?:please )?"
        r"(?:just |only |simply )?(?:say|output|respond with|reply with|answer with|print) ['\"]",
    ),
)

TO_THE_MODEL: tuple[Phrase, ...] = (
    (("you are",), rf"\b(?:if|since|because|when) you are {MODEL}\b"),
    (
        MODEL_HINTS,
        rf"\b(?:note|notice|message|attention|instructions?|memo|reminder|hint|hello|dear) (?:to |for )?{MODEL}"
        r"(?: models?| assistants?| agents?| systems?| readers?| reviewers?)? ?[:,.!]",
    ),
    (
        ("automated", "ai", "llm"),
        r"\b(?:note|instructions?|message|profile) (?:to|for) (?:the |all |any )?(?:automated|ai|llm)[ -]"
        r"(?:\w+ ){0,2}?(?:software|systems?|screening|analysis|reviewers?|assistants?|agents?|tools?)\b",
    ),
    (
        ("visible", "addressed", "directed"),
        rf"\b(?:visible|addressed|directed) (?:only )?(?:to|for) {MODEL}\b",
    ),
    (
        ("as an ai", "as an llm", "as a l", "as an l", "as a ai"),
        r"\bas an? (?:ai|llm|language model)[^.!?]{0,30}?,? you "
        r"(?:must|should|will|shall|have to|need to|are (?:required|obliged))\b",
    ),
    (("you are ",), r"\byou are (?:now )?(?:no longer|not) (?:bound|restricted|limited) by\b"),
    (
        ("you are now ",),
        r"\byou are now (?:an? |in |the )?"
        r"(?:unrestricted|uncensored|unfiltered|jailbroken|evil|developer mode|dan\b|free from)",
    ),
    (
        ("do anything now", " mode "),
        r"\b(?:do anything now|(?:jailbreak|god|developer) mode) (?:is )?(?:enabled|activated|on|unlocked)\b",
    ),
    (
        ("if ",),
        r"\bif (?:the |a |any )?(?:user|reader|recruiter|person|human)(?: ever)? (?:asks?|requests?)[^.!?]{0,60}?,? "
        r"(?:reply|respond|answer|say|tell them|output|simply|just|only)\b",
    ),
)

EXFILTRATION: tuple[Phrase, ...] = (
    (
        ADDRESS_HINTS,
        rf"\b{SEND}\b[^.!?]{{0,60}}?\b{SECRETS}\b[^!?\[\]]{{0,60}}?\b(?:to|at|via)\b[^!?\[\]]{{0,20}}?{ADDRESS}",
    ),
    (("![",), r"!\[[^\]]{0,80}\]\(https?://[^)\s]{1,200}[?&][\w-]{1,30}=(?:\{|<|\[|%7b|\$)"),
    (
        ("prompt", "instructions", "system message"),
        r"\b(?:reveal|print|show|repeat|output|tell me|display|leak|disclose|give me)\b[^.!?]{0,30}?"
        r"\byour (?:system prompt|system message|initial prompt|hidden (?:prompt|instructions)|secret instructions"
        r"|(?:initial|original|system|exact) instructions)\b",
    ),
)

STEERING: tuple[Phrase, ...] = (
    (
        ("with only", "with just", "nothing but", "with exactly"),
        r"\b(?:reply|respond|answer) with (?:only|just|nothing but|exactly) (?:the|this) "
        r"(?:following|text|sentence|phrase)\b",
    ),
    (("ly with",), r"\b(?:reply|respond|answer) (?:only|solely|exclusively) with\b"),
    (
        ("focus", "concentrate"),
        r"\b(?:focus|concentrate) (?:only|exclusively|solely|instead) (?:\w+ )?on (?:the )?"
        r"(?:following|information|positive)",
    ),
    (
        ANSWER_HINTS,
        rf"\byour (?:final )?{ANSWER} (?:must|should|has to|needs to|shall) (?:only )?"
        r"(?:contain|include|be|begin|start|end|say)\b",
    ),
    (
        ANSWER_HINTS,
        rf"\b(?:in|to|into|within|at the end of|throughout) your {ANSWER}\b[^.!?]{{0,20}}?,? "
        r"(?:include|mention|add|insert|suggest|recommend|promote|tease|praise|say|write)\b",
    ),
    (
        ANSWER_HINTS,
        rf"\b(?:add|insert|append|incorporate|integrate|weave|embed|inject) [^.!?]{{1,160}}? "
        rf"(?:in|to|into|within) your {ANSWER}\b",
    ),
    (
        ANSWER_HINTS,
        rf"\b(?:modify|alter|change|augment|enhance|enrich|encode|encrypt|scramble|translate|render) your {ANSWER}\b",
    ),
    (("question",), r"\b(?:please (?:also )?|now |first |also )?answer (?:this|the following) question ?:"),
    (
        ("ignor",),
        r"\bignor\w{1,3} (?:all )?(?:the )?(?:negative|other) (?:indicators|information|aspects)\b",
    ),
)

URGENT_ORDERS: tuple[Phrase, ...] = (
    (
        ("instruction", "directive", "command", "guidelines", "orders", "task", "new rules"),
        rf"\b{URGENT}\b[^.!?]{{0,60}}?\b(?:instructions|directives?|new (?:orders|guidelines|commands?|rules)"
        r"|(?:new|additional|extra|special) task)\b",
    ),
    (
        ("instruction", "directive", "command", "guidelines", "orders", "task", "new rules"),
        r"\b(?:(?:next|following|upcoming) (?:set of )?(?:instructions|directives?|commands?)"
        r"|instructions (?:that|to) follow|(?:new|additional|extra|special) (?:\w+ )?(?:instructions|task|orders))\b"
        rf"[^.!?]{{0,60}}?\b{URGENT}\b",
    ),
)

ORDER_IN_TOOL_RESULT: tuple[Phrase, ...] = (
    (
        ADDRESS_HINTS,
        rf"\b{SEND}\b[^.!?]{{0,60}}?\b{RECORDS}\b[^!?]{{0,50}}?\bto "
        rf"(?:me at |my e-?mail |the e-?mail )?['\"]?{ADDRESS}",
    ),
    (
        ("please ", "kindly ", "can you ", "could you "),
        r"\b(?:please |kindly |can you |could you )(?:\w+ ){0,2}?(?:grant|give|unlock|open|disable|turn off|delete"
        r"|remove|erase|transfer|deposit|withdraw|sell|buy|pay|wire|update|change|reset|share|create|install|execute"
        r"|run|move|schedule|book|cancel|register|retrieve|fetch|get|find|download|use)\b[^.!?]{0,60}?\bmy\b",
    ),
)
