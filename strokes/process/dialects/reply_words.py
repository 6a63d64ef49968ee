"""The words and phrases by which :mod:`replies` tells an instruction from what is said around it, as sets and patterns.

Words are matched in lower case. Patterns are matched against the plain words of one sentence: lower case, short forms
written out ("can't" is "can not"), one space between words, no punctuation. English is told apart closely; of other
languages only what is not an instruction is known, because a sentence that is nothing else instructs.
"""

from __future__ import annotations

import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _words(pattern: str) -> re.Pattern[str]:
    """A pattern of whole words; blanks at line breaks are not part of it."""
    return re.compile(rf"\b(?:{''.join(line.strip() for line in pattern.splitlines())})\b")


# "Step" before its number.
STEP = "(?:step|schritt|étape|paso|passo|stap|шаг)"
# Verbs that begin an instruction to a painter.
VERBS = _set("""
    add adjust align angle apply arrange attach balance bend block blend blur brighten bring build carve centre
    center change clean clear close colour color complete connect continue convert correct cover create crop curve
    cut darken decorate deepen define delete depict detail dim direct divide double drape draw drop dry duplicate
    elongate emphasise emphasize enlarge enhance enrich erase expand extend face fade fill finish fit fix flip fold
    frame give glaze group hang heighten hide highlight illuminate improve include increase insert join keep lay
    lean leave lengthen lift light lighten limit line link load lower make merge mirror modify mount move narrow
    open outline overlay paint pair pattern place point position pour put raise rearrange recolour recolor redraw
    reduce refine relocate remove render repaint repair replace reposition resize reshape restore reverse rotate
    rough round scale scatter separate set shade shape sharpen shift shorten show shrink simplify sketch slant
    smooth soften space split spread sprinkle stretch straighten strengthen swap switch take texture thicken thin
    tilt tint trim tuck turn twist use vary warm weaken widen wrap write
""")
# Of VERBS, the ones that are as often nouns or adjectives: after a comma they instruct only before an article.
AMBIGUOUS = _set("""
    angle balance blend block blur centre center clean clear close colour color complete cover curve cut detail dim
    direct double drop dry face fade fill finish fit fix fold frame glaze group hide highlight light line link load
    lower mirror mount narrow open outline pair paint pattern place point position round scale set shade shape show
    sketch space split spread switch texture thin tilt turn twist use warm
""")
# Of VERBS, the ones that are also a label or a verdict: "Correct: move the chair."
LABEL_VERBS = _set("correct fix change continue improve detail")
# Verbs that are said to a reader: they instruct nobody to paint.
TO_READERS = _set("""
    answer ask attach check choose clarify compare describe explain imagine look note notice observe provide
    remember reply respond see select send share specify submit tell think upload wait
""")
ARTICLES = _set("""
    a an the this that these those its his her their my your our some any each every all both another more two three
    four five six seven eight nine ten one it them him
""")
# Words that name nothing, in any sentence. A reply of these alone is babble.
EMPTY_WORDS = _set("""
    a about after again all also am an and any are as at be been being but by can could did do does for from had has
    have he her here him his how i if in into is it its just may me might more most must my of off on or our out she
    should so some such than that the their them then there these they this those to too up us very was we were what
    when where which while who will with would you your not only over each every other another let shall
    need needs de la le les el los las un une der die das ein eine et und y en du des al il lo di
""")
# Words of the talk about painting, which name nothing in the picture.
TALK = _set("""
    absolutely accordingly action actual addition additional afraid alone alright alternatively answer answers
    apologies apologise apologize apology appreciate ask asked asks assist assistant assistance based begin bot
    change changes certainly conclusion confusion comes correct corrected correction corrections corrects course
    critique current currently definitely describe described description directly do doing drawing edit edits
    element else error errors everything exactly explanation feedback few final finally first firstly fix following
    follows further gladly glad good great happy happily help here hi hello hey hmm however idea image images
    improvement indeed initial instead instruction instructions issue issues ahead keeping know last lastly latest
    looking make mention mentioned mind missing mistake mistakes model my next no nothing now observation of oh
    ok okay one oops output oversight overall painted painting picture piece plan please point possible previous
    problem problems prompt proceed provided question quick ready reasoning recommendation reply request requested
    respond response result revised right scene second secondly short simple simply single solution sorry specific
    start started starting step steps stage suggest suggested suggestion suggestions sure system task thank thanks
    that then thing things thirdly third thought thoughts time true try understand understood update updated user
    version want way welcome well what work wrong yeah yep yes yet you looks look like seems see given go
    going comment summary modification modifications adjustment adjustments done finished incorrect therefore thus
    since otherwise regarding according perhaps maybe actually review reviewing match matches better closer continue
    both got verdict evaluation judgement judgment assessment check analysis note detail order human perfect
    excellent wonderful fantastic awesome amazing lovely nice brilliant beautiful think wait tell explain add adding
    paint draw drawn create finish complete completing something anything needed required necessary optional say
    says specify unclear almost nearly still said natürlich gerne gern klar nächster nächste nächsten schritt hier
    ist antwort anweisung korrektur zuerst jetzt dann als nächstes ja nein bien sûr voici prochaine étape réponse
    d'accord d'abord ensuite maintenant oui non l'étape suivante claro supuesto por aquí siguiente paso está
    respuesta instrucción corrección ahora primero sí конечно вот следующий шаг ответ исправление хорошо сначала
    теперь да нет certo ecco prossimo passo passaggio risposta correzione ora prima aqui próximo próxima resposta
    correção agora primeiro sim natuurlijk volgende stap antwoord correctie nu eerst graag luego después para puis
    alors bitte
""")
# What there is to paint on and to talk of: an instruction about nothing else ("Correct the picture.") names nothing.
CANVAS = _set("""
    picture image painting artwork scene drawing canvas step prompt instruction correction mistake mistakes error
    errors problem problems next first no nothing now thing something everything description accordingly please
""")
# Of TALK, the nouns that can stand for the step itself: "the next step is to …".
STEP_NOUNS = _set("""
    step steps thing instruction correction answer fix change edit action task suggestion next stage improvement
    solution recommendation plan adjustment move modification part element idea addition priority paint draw add
""")
# Adjectives: a sentence that is cut off after one of these names nothing yet.
ADJECTIVES = _set("""
    red blue green yellow white black grey gray brown pink purple orange golden gold silver turquoise violet beige
    dark light bright pale soft warm cold deep big small large little tiny huge tall short long wide narrow thin
    thick old new young round square open single few bigger smaller larger taller longer wooden stone iron second
    third first left right upper lower top bottom colour color
""")
# Words before an imperative that do not change that it is one.
POLITE = _set("please kindly just simply also let us always now then next so and but do")
ORDER = _set("now next then first firstly second secondly third finally lastly afterwards afterward thereafter so")
ABBREVIATIONS = _set("mr mrs ms dr st vs e.g i.e eg ie approx fig prof jr sr ca cf bzw z.b mt capt sgt col gen lt nr")
# Before a small letter these do not end a sentence either.
SOFT_ABBREVIATIONS = _set("etc a.m p.m am pm in ft cm m u.s")
# Words that never begin an imperative, before an article.
NOT_VERBS = (
    EMPTY_WORDS
    | ARTICLES
    | TO_READERS
    | _set("""
    above across against almost along although amid among around because before behind below beneath beside besides
    between beyond despite during except half inside like near nearly once onto opposite outside perhaps maybe quite
    rather since still through throughout though toward towards under underneath unless until upon what whereas
    within without yes no not even here there overall finally first next now today such apart considering given
    based regarding following including
""")
)
PRONOUN_OBJECTS = _set("it them him")
PRONOUN_SUBJECTS = _set("it they he she its their his")

_PICTURE = (
    "(?:(?:the|this|that|your|our) (?:whole |entire |final |current )?"
    "(?:picture|image|painting|artwork|work|scene|drawing|composition|canvas|illustration|step|task|piece|job|result))"
)
_CHANGED = (
    "(?:(?:add|change|correct|fix|paint|draw|edit|adjust|alter|improve|remove|do|repair|move|redo)"
    "(?:e?d|n|ne|ing|ion)?|modify|modified)"
)
_CHANGES = (
    "(?:(?:correction|change|error|mistake|edit|adjustment|addition|issue|problem|fault|fix|modification|improvement|"
    "alteration|flaw|revision)s?|inaccuracy|inaccuracies|fixes)"
)
_THINGS = "(?:element|object|part|detail|thing|step|action|work)s?"
FINISHED = _words(rf"""
    (?:nothing|none)(?: else| more| further| that)*(?: is| are| looks| seems| appears| was)?(?: left| really)?
    (?: missing| wrong| incorrect| left| absent| remaining| remains| lacking| needed| required| necessary| off
    | to (?:be )?{_CHANGED}| (?:needs?|has|have|should|must|requires?|ought) (?:to )?(?:be )?{_CHANGED})
    |(?:nothing|none)(?: else| more| further)+$
    |no (?:(?:further|more|other|additional|obvious|visible|major|specific|such|need for|need of|any) )*{_CHANGES}
    |no need to {_CHANGED}|no (?:(?:further|more|other|additional) )+{_THINGS}
    |no (?:\w+ )?{_THINGS} (?:is |are )?(?:missing|left|needed|required|remaining|remain|remains|necessary)
    |not (?:need|require)(?: any| a| to be| to)?(?: more| further| other)* (?:{_CHANGES}|{_CHANGED}|anything)
    |not (?:see|find|notice|have|spot)(?: any| anything| a)(?: more| further| else| other)*
    (?: {_CHANGES}| wrong| missing| incorrect| to {_CHANGED})
    |(?:correction|change|edit|adjustment|fix)s? (?:is|are) not (?:needed|necessary|required)
    |not (?:think|believe) (?:that )?(?:anything|there is anything|there are any)
    |not (?:change|add|correct|alter) (?:anything|a thing)
    |(?:leave|keep) (?:it|everything|{_PICTURE}) (?:just |exactly )?(?:as|the way) (?:it|they|is)
    |(?:it|everything|{_PICTURE})(?: already| now| fully| exactly| does)*
    (?: shows?| match(?:es)?| contains?| includes?| has| depicts?| fulfil?ls?| meets?| follows?| reflects?)
    (?: already| now| fully| exactly| perfectly)*(?: what(?! is)| everything
    | all (?:of )?(?:the )?(?:elements|requested|required|necessary|needed|things|parts|details)
    | the (?:prompt|description|request|instruction))
    |(?:it|everything|edit|change|{_PICTURE}) (?:was|is|has been)(?: \w+)?
    (?: painted| done| made| carried out| executed| applied| followed| drawn)
    (?: correctly| as| well| right| properly| perfectly)
    |as it should(?: be)?|you can stop|(?:that|this) is (?:all|it)$|(?:i am|we are) (?:done|finished)
""")
# With this before it, a sentence is finished where only words follow that name nothing.
FINISHED_START = re.compile(
    r"(?:(?:yes|no|ok|okay|well|so|now|then|thus|think|i|that|believe|would|say|and|answer|the|sure|great) )*"
    r"(?:(?:finished|done|completed?|correct|(?:all|everything)(?: is)? (?:done|set|good|fine|right|ready|ok|okay))\b"
    r"|(?:looks?|seems?) (?:(?:very|all|quite|pretty) )?(?:good|fine|correct|right|great|perfect|done|completed?"
    r"|finished|ok|okay)\b"
    rf"|(?:it|this|that|all|everything|we|i|all of it|{_PICTURE}|(?:picture|image|painting|step))"
    r" (?:is|are|looks|look|seems|appears|has been|have been|was|am)(?: (?:now|already|all|fully|to be|also|both|just"
    r"|very|quite|absolutely|completely|perfectly|indeed|really|actually|\w+ and))*"
    r" (?:finished|done|completed?|ready|perfect|correct|fine|good|ok|okay|right|accurate|great|as)\b)"
)
FINISHED_ALL = re.compile(
    r"(?:everything|all|each|every)\b.{0,200}? (?:is|are|was|were|been)(?: (?:already|now|all|correctly|fully))*"
    r" (?:there|present|painted|included|drawn|shown|in place|visible|done|completed?|depicted|covered|finished|correct"
    r"|fine|in the (?:picture|image|painting|scene))\b"
)
FINISHED_ALONE = _set("nothing none finito terminé fini listo terminado fertig klaar готово pronto concluído")
FINISHED_ABROAD = re.compile(
    "完成|没有(?:缺少|问题|错误|任何|需要|遗漏|什么)|无需|不需要|不用修改|正确的?$|没问题|画完了|"
    "問題(?:は|が)?(?:ありません|ない)|正しい|不足(?:は|して)?.{0,4}(?:ありません|いません)|何も.{0,8}(?:ありません|ない)|"
    "修正は?(?:不要|必要ありません)|완료|완성되|문제가? ?없|수정할 (?:것|필요)|"
    r"\b(?:nichts|(?:ist|alles|sind) (?:\w+ )?(?:fertig|vollständig|richtig|korrekt|da|gut)"
    r"|keine? (?:\w+ )?(?:änderung|korrektur|fehler)(?:en)?"
    r"|rien|(?:est|sont) (?:\w+ )?(?:terminée?|finie?|complète?|correcte?|bon|bien|parfait)"
    r"|aucune? (?:\w+ )?(?:correction|modification|erreur|changement)"
    r"|nada|(?:está|todo está|es) (?:\w+ )?(?:(?:terminad|complet|correct|list|acabad)[ao]|bien)"
    r"|no (?:hay|se necesitan?|requieren?) (?:\w+ )?(?:errores|cambios|correcciones)"
    r"|nulla|niente|(?:è|tutto) (?:\w+ )?(?:finit|complet|corrett)[oa]|nessuna? (?:correzione|modifica|errore)"
    r"|(?:está|tudo) (?:\w+ )?(?:pront|concluíd|corret|complet)[oa]|nenhuma? (?:correção|alteração|erro)"
    r"|niets|(?:is|alles is) (?:klaar|compleet|correct)|geen (?:correctie|wijziging|fout)(?:en|s)?"
    r"|ничего|картина (?:готова|закончена|завершена)|вс[её] (?:готово|верно|правильно|на месте)|закончено|завершено"
    r"|не (?:требуется|нужно)|нет ошибок)\b"
)
# What turns a "finished" into a fault, or into not finished yet.
CONTRAST = _words("""
    but|except|excepting|however|apart from|besides|other than|although|though|save for|still|aside from
    |aber|außer|mais|sauf|pero|salvo|excepto|но|кроме|ma|tranne|maar|behalve
""")
NOT_YET = _words("almost|nearly|not|never|far from|half|partly|partially|once|when|until|if|before")
# A sentence that only thanks or praises.
COURTESY = re.compile(
    r"(?:thanks?|thank you|congratulations|(?:what an? )?(?:(?:very|a|an|this is|such) )*(?:nice|great|good|beautiful"
    r"|lovely|excellent|amazing|wonderful|fantastic|perfect|interesting|fun) (?:work|job|start|progress|choice|picture"
    r"|painting|image|idea|composition|question|prompt|scene|detail)s?)\b"
)
# A clause that only says what is done or right.
DONE = re.compile(
    r"(?:(?:all|well|almost|nearly|already|we are|i am) )*(?:done|finished|completed)\b"
    r"|.*\b(?:is|are|looks|look|was|were|has been|have been)(?: (?:all|already|now|almost|nearly|very|quite|also|just"
    r"|well|so|mostly|looking))* (?:good|fine|right|correct|done|finished|completed?|painted|drawn|ready|ok|okay|great"
    r"|nice|perfect|in place|there|beautiful|lovely|well)$"
)
_VERB = f"(?:{'|'.join(sorted(VERBS - _set('improve continue keep make give')))})"
# What ought to be, or what is going to be painted.
MODAL = _words(rf"""
    should|must|ought|needs?(?! no)|has to|have to|requires?|supposed to|belongs?|had better
    |(?:is|are) (?:needed|required)|(?:want|like) to see
    |(?:would|could)(?: also| really| certainly)? (?:benefit|look|be|use|help|do with|improve|add|give|make)
    |(?:can|could|will|would|might|may|going to|want to|like to|try to|time to|is to|let me|suggest|recommend|propose)
    (?: (?:also|now|then|next|first|be|please|want to|try to|go ahead and|try|consider|start by))*
    (?: {_VERB}(?:e?d|n)?| (?:make|give|made|given|drawn|shown|put|\w+ing (?:a|an|the|some|more)))
    |(?:we|you)(?: (?:also|now|then|next|first))* {_VERB}
    |(?:suggest|recommend|propose) (?!the following|this)(?:a|an|the|some|more|to|that|\w+ing)
    |(?:the|its|their) correct .{{1,100}} (?:is|are)
""")
# What an instruction would do for the picture, and what was done.
EXPLAINS = re.compile(
    r"(?!it would be \w+ (?:to|if)\b)(?:this|that|it|which|these|doing (?:so|this))"
    r" (?:will|would|could|can|helps?|makes?|should help|gives?)\b"
    r"|(?:done|finished|completed) (?:with|the|\w+ing)\b"
)
FAULT = _words(r"""
    missing|lacks?|lacking|absent|too \w+|wrong|wrongly|incorrect|incorrectly|upside down|instead of
    |(?:has|have|with|is|are|to be) no|there (?:is|are|was|were) (?:still |currently )?(?:no|not|only|nothing)
    |(?:is|are|does|do|did|was|were|has|have|can) not|no longer
    |only (?:one|two|three|four|five|six|seven|eight|nine|ten|has|have|shows?)|extra|mistake|error|fails?|except
    |apart from|everything but|all but|remains? to be|what remains|remaining|overlaps?|overlapping
    |rather than|forgotten|omitted|never|hardly|barely
    |not (?:visible|there|enough|yet|present|centred|centered|straight)
    |(?:is|are|look|looks|appears?|seems?|was|were)(?: \w+)? (?:tilted|slanted|bent|twisted|warped|cropped|cut off
    |hidden|swapped|reversed|mirrored|unclear|off|uneven|asymmetrical|stretched|smudged|broken|distorted|deformed|blurry
    |blurred|unfinished|incomplete|backwards?|crooked|floating|disproportionate|inconsistent|mismatched|unrealistic
    |unnatural|misshapen|misaligned|misplaced|faded|duplicated|doubled|strange|odd|weird|bare|out of (?:place|proportion))
    |(?:ist|sind|wirkt|wirken|steht|stehen)(?: \w+)? zu \w+|fehlt|fehlen|falsch|keine?|trop|manque|manquent|demasiado
    |falta|faltan|слишком|не хватает|отсутствует|troppo|manca|mancano|is te \w+|ontbreekt
""")
FAULT_ABROAD = re.compile("太|缺少|没有|不对|错误|过于|すぎ|ありません|ない|間違|不足|너무|없|잘못")
_LOOK = "(?:see|find|notice|spot) (?:anything|an?|any|the) (?!image|picture|photo|painting|attached)"
REFUSAL = _words(rf"""
    (?:i|we)(?: \w+)? (?:can|could|will|am|are|would|do|was)(?: \w+)? (?:not(?! think| believe| {_LOOK})|unable)
    |(?:i|am|be) (?:unable|not able)|as an? (?:\w+ ){{0,4}}(?:ai|model|assistant)
    |i am an? (?:\w+ ){{0,4}}(?:model|assistant|ai|program)|unable to|not able to|not possible
    |impossible (?:for me|to (?:say|tell|determine|know))
    |not have (?:\w+ )?(?:access|the ability|enough|the capability|information|the means|any information|eyes)
    |no (?:image|picture|photo|painting)s? (?:was|is|were|has been|have been|attached|provided|given|visible)
    |there is no (?:\w+ )?(?:image|picture|photo|painting)(?= (?:for|here|to|attached|provided|available|uploaded)|$)
    |(?:image|picture|photo)s? (?:was|is|were|has been|does|did|can) not
    (?:provided|attached|uploaded|visible|load|be loaded|included)
    |goes against|against my (?:guidelines|policy)|(?:decline|refuse) to|(?:must|have to) decline
    |can not (?:help|assist|comply|do)|not (?:allowed to|permitted|comfortable|appropriate)
""")
REFUSAL_ABROAD = re.compile(
    "无法|我不能|我没有办法|看不到|抱歉|できません|申し訳|お手伝いでき|할 수 없|죄송|"
    r"\b(?:ich kann (?:\w+ ){0,8}nicht|tut mir leid|es ist mir nicht|leider kann|je ne peux|je suis désolée?"
    r"|je suis incapable|no puedo|lo siento|non posso|mi dispiace|não posso|desculpe|não consigo|kan ik niet"
    r"|ik kan (?:\w+ ){0,8}niet|не могу|извините|к сожалению)\b"
)
# Our questions, their conditions and the forced start of a correction, in these and similar words.
ECHO = _words(r"""
    what should be (?:painted|changed|added|done|drawn|corrected)|if .{1,80} answer|otherwise answer
    |answer with (?:just |only )?(?:one|a|1) (?:short |single )?(?:instruction|sentence|step)|one short instruction
    |answer (?:yes or no|with yes)|for this step alone|this picture is on its way|to paint .{1,300} step by step
    |was this step painted|what is not drawn yet|will come later|is not an error|is this picture a finished
    |if the step was painted|if nothing is missing|^to correct (?:it|this|the picture|the image)$
    |that corrects the picture|was judged wrong|how (?:to|should .{1,80}) correct(?:ed)?(?: it| the picture| this)?
""")
# Of our questions, what stands before a step that we told of.
ECHO_OF_STEPS = re.compile(
    r"^such as |\b(?:(?:alone|picture) such as|(?:these|after these) steps(?: were painted)?|the last step was"
    r"|was not painted as described)\b"
)
# What is said to the person who asks, or repeats what we say to the model.
ASKS = re.compile(
    r"(?:please |kindly |(?:could|can|would) you (?:please )?)?(?:let me know|let us know|feel free|tell me|wait"
    r"|provide|upload|share|specify|clarify|describe|send|give me|attach|explain|ask|choose|select|answer|respond|reply"
    r"|i would like to know|i need (?:more|to know|to see)|i (?:would )?need (?:a|the|you|an) (?:image|picture|to))\b"
)
ASKS_ABROAD = re.compile(
    "请(?:你|您)?(?:提供|上传|描述|告诉|说明)|bitte (?:beschreib|gib|lade)|veuillez (?:fournir|décrire)"
    "|por favor (?:proporcion|describ|sub)"
)
QUESTION_START = re.compile(
    r"(?:would|do|does|shall|should|could|can|may|is|are|am|did|was|were|what|which|where|how|why|who|when|whose) "
)
QUESTION_ABROAD = re.compile("(?:ですか|ますか|でしょうか|吗|呢|까요|습니까)$")
# Finite verbs of a description, when no relative pronoun stands before them.
FINITE_VERBS = _set("""
    is are was were has have had shows show depicts contains contain features includes appears seems looks look
    stands sits lies hangs walks runs flies swims holds wears rests floats glows shines fills covers surrounds
    dominates gives creates makes made adds matches asks says mentions suggests can will see saw am feels portrays
    illustrates represents captures consists remains displays leads stretches rises grows lives plays sleeps stares
    smiles faces does do did ist sind zeigt hat steht sieht montre montrent représente est voit muestra hay tiene
    mostra toont staat показывает изображен изображена изображено shown seen depicted
""")
# A sentence with one of these in front is no name of a thing.
SUBJECTS = _set("i you we he she it they this that these those there")
# Of FINITE_VERBS, the ones that can begin a description; others are nouns there ("Rests of a wall").
FINITE_STARTS = _set("is shows depicts contains features")
DESCRIBES_ABROAD = re.compile(
    r"^(?:这|该|此)?(?:张|幅)?(?:图片|图像|图中|图里|画面(?:中|上|里)(?:有|是|显示)|图画|照片|画中).{0,3}?(?:显示|展示|中?有|是|描绘|里)|"
    r"^(?:画像|写真|絵)(?:に)?は|^(?:이|그) ?(?:그림|이미지)(?:은|는|에)|"
    r"\b(?:das bild zeigt|auf dem bild|l'image|sur l'image|on voit|il y a|la imagen|en la imagen|l'immagine|a imagem|"
    r"de afbeelding|op de afbeelding|на картинке|на изображении|на картине)\b"
)
RELATIVES = _set("who that which whose where while as with")
LEAD_ABROAD = re.compile(
    "(?:(?:好的|当然(?:可以)?|没问题|首先|接下来|然后|现在|次に|まず|はい|もちろん|では|下一步(?:操作|指令|应该|要|的)?"
    "|次のステップ)(?:是|应该是|为|は|です)?[，、,:：。！!]?|(?:步骤 ?[0-9]{0,2}|修正|更正|答案|回答|指令)[:：])\\s*"
)
STEP_LABEL = re.compile(rf"(?:next )?{STEP} \d{{1,2}}\b[ .:)–—-]{{1,4}}", re.IGNORECASE)
TALK_ABROAD = re.compile(
    "好的|当然|可以|没问题|首先|接下来|然后|现在|次に|まず|はい|もちろん|下一步|步骤|答案|修正|指令|操作|次のステップ|是|以下|这里|です|は"
)
