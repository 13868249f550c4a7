"""Words that say nothing about what a text is about, for the languages of ``language:``."""

from __future__ import annotations

from functools import cache
from typing import Annotated

import msgspec

from paddock.errors import FieldError, ValidationFailed

StopWords = Annotated[
    list[Annotated[str, msgspec.Meta(min_length=1, max_length=60)]],
    msgspec.Meta(max_length=2000, description="take the place of the language's own list"),
]

_LISTS = {
    "en": """a about above after again against all almost alone along already also although always am among an and another
        any anyone anything are aren't around as at away back be became because become been before being below between both
        but by came can can't cannot could couldn't did didn't do does doesn't doing don't done down during each either else
        enough even ever every everyone everything few first for from further get give given go goes got had hadn't has
        hasn't have haven't having he he's her here hers herself him himself his how however i i'd i'll i'm i've if in
        instead into is isn't it it's its itself just keep kept last least less let let's like made make many may me might
        more most much must my myself near need needs neither never next no nobody none nor not nothing now of off often on
        once one only onto or other others our ours ourselves out over own per perhaps put quite rather really said same see
        seem several shall she she's should shouldn't since so some someone something soon still such take than that that's
        the their theirs them themselves then there there's therefore these they they're thing things this those though
        through thus to together too toward towards two under until up upon us use used very was wasn't we we'll we're we've
        well were weren't what when where whether which while who whole whom whose why will with within without won't would
        wouldn't yes yet you you'll you're you've your yours yourself""",
    "de": """aber alle allem allen aller alles als also am an ander andere anderem anderen anderer anderes auch auf aus bei
        beim bin bis bist da dabei dadurch dafür dagegen daher damit danach dann daran darauf daraus darf darin darüber
        das dass davon davor dazu dein deine dem den denn der des deshalb dessen dich die dies diese diesem diesen dieser
        dieses dir doch dort du durch eben ein eine einem einen einer eines einige einigen einmal er es etwas euch euer für
        gar gegen gemacht gewesen ging hab habe haben hat hatte hatten hier hin hinter ich ihm ihn ihnen ihr ihre ihrem
        ihren ihrer im immer in ins ist ja jede jedem jeden jeder jedes jedoch jene jetzt kann kein keine keinem keinen
        keiner können könnte konnte machen man manche mehr mein meine mich mir mit muss müssen musste nach nicht nichts noch
        nun nur ob oder ohne schon sehr sein seine seinem seinen seiner seit sich sie sind so sogar solche soll sollen sollte
        sondern sonst über um und uns unser unsere unter viel viele vom von vor während war waren warum was weil weiter
        welche welchem welchen welcher wenn wer werde werden wie wieder will wir wird wirst wo wollen wollte wurde wurden
        würde würden zu zum zur zwar zwischen""",
    "fr": """à afin ai ainsi alors après au aucun aucune aujourd'hui auquel aussi autre autres aux avant avec avez avoir avons
        bien car ce ceci cela celle celles celui cependant ces cet cette ceux chaque chez ci comme comment d'un d'une dans de
        depuis des donc dont du elle elles en encore entre est et étaient était étant été être eu eux fait faire faut fois
        font hors ici il ils j'ai je jusque l'on la là le les leur leurs lors lorsque lui ma mais me même mêmes mes moi moins
        mon n'est ne ni non nos notre nous on ont ou où par parce pas peu peut peuvent plus plusieurs pour pourquoi qu'il
        qu'elle quand que quel quelle quelles quels qui quoi s'il sa sans se sera ses seulement si sinon soit son sont sous
        sur ta te tel telle telles tels tes toi ton tous tout toute toutes très trop tu un une vers voici voilà vos votre
        vous y""",
    "es": """a al algo algunas algunos ante antes aquel aquella aquí así aun aunque bajo bien cada casi como con contra cual
        cuando de del desde donde dos durante e el él ella ellas ellos en entonces entre era eran eres es esa esas ese eso
        esos está están estas este esto estos estoy fue fueron ha había han hasta hay he la las le les lo los más me mi mía
        mientras mis mismo mucho muchos muy nada ni no nos nosotros nuestra nuestro o os otra otras otro otros para pero poco
        por porque pues que qué quien quién se sea según ser será si sí sido sin sobre sois solo son soy su sus también tan
        tanto te tengo ti tiene tienen todo todos tu tú tus un una uno unos usted vosotros y ya yo""",
    "it": """a abbiamo ad agli ai al alcuni alla alle allo altre altri altro anche ancora avere aveva avevano ben che chi ci
        cioè come con contro cosa così cui da dagli dai dal dalla dalle dallo degli dei del dell della delle dello dentro di
        dopo dove due e è ed era erano essere fa fare fino fra fu già gli ha hai hanno ho i il in io l la le lei li lo loro
        lui ma me mentre mi mia mio molti molto ne negli nei nel nella nelle nello nessuno niente noi non nostra nostro o
        ogni oltre ora per perché però più poco poi prima può qua quale quali quando quanto quella quelle quelli quello
        questa queste questi questo qui sarà se sei senza si sia siamo siete solo sono sopra sotto sta stata stato su sua
        sue sugli sui sul sulla suo suoi te ti tra tu tua tutte tutti tutto un una uno vi voi vostro""",
    "nl": """aan al alle alleen als altijd ander andere anders ben bent bij daar daarna dan dat de deze die dit doch doen door
        dus een eens en er erg ergens geen geweest haar had hadden heb hebben heeft hem het hier hij hoe hun iemand iets ik
        in is ja je jij jouw jullie kan kon konden kunnen maar mag me meer men met mij mijn moest moet moeten naar naast niet
        niets nog nu of om omdat ons onze ook op over reeds sinds te tegen terwijl toch toen tot tussen u uit uw van veel
        vele vervolgens voor waar waarom wanneer want waren was wat we weer wel welke werd werden wie wij wil wordt worden
        zal ze zei zelf zich zij zijn zo zoals zonder zou zouden zullen""",
    "pt": """a à ao aos aquela aquele aquilo as às até com como da das de dela dele deles depois do dos e é ela elas ele eles
        em entre era eram essa esse esta está estão este eu foi foram há isso isto já la lhe mais mas me mesmo meu minha
        muito muitos na não nas nem no nos nós nossa nosso num numa o os ou para pela pelas pelo pelos por porque qual quando
        que quem são se seja sem ser será seu seus sim só sobre sua suas também te tem têm tenho ter teu toda todo todos tu
        tua um uma umas uns você vocês vos""",
}


@cache
def _of(language: str) -> frozenset[str]:
    return frozenset(_LISTS[language].split())


def stop_words(language: str, own: list[str] | None = None) -> frozenset[str]:
    """The stop words of a known language in lower case, or `own` in their place."""
    return _of(language) if own is None else frozenset(word.lower() for word in own)


def check_language(language: str) -> None:
    """Raises ValidationFailed for a language without a list."""
    if language not in _LISTS:
        reason = f"no stop words for {language[:20]!r}: use one of {', '.join(_LISTS)}, or give stop_words"
        raise ValidationFailed.of([FieldError("language", reason)])
