"""What the errors of model servers mean: one table for all protocols.

A row is recognised by the error's code or type, or by its wording. The rows are tried in order, by names first; the
HTTP status decides where no row fits. A new server's way is a word in a row here and a case in
`tests/unit/worker/models/test_error_table.py`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto


class Meaning(Enum):
    """What an error means for the message."""

    UNSUPPORTED = auto()
    TOO_LONG = auto()
    CONTENT = auto()
    CREDITS = auto()
    LOADING = auto()
    TOKEN = auto()
    PROXY = auto()
    NO_SUCH_MODEL = auto()
    RATE = auto()
    OVERLOADED = auto()
    UNAVAILABLE = auto()
    NOT_FOUND = auto()
    BUSY = auto()
    REFUSED = auto()
    FAILED = auto()


@dataclass(frozen=True)
class Row:
    """How servers express one meaning."""

    meaning: Meaning
    #: Codes and types, in lower case and without `_`, `-` and `.`.
    names: frozenset[str]
    wording: re.Pattern[str] | None = None
    #: The statuses under which the wording counts; empty: all.
    statuses: frozenset[int] = frozenset()
    #: Wording under which the row does not count.
    unless: re.Pattern[str] | None = None


def _row(
    meaning: Meaning,
    names: str = "",
    wording: str | None = None,
    statuses: tuple[int, ...] = (),
    unless: str | None = None,
) -> Row:
    patterns = [re.compile(p, re.IGNORECASE | re.VERBOSE) if p else None for p in (wording, unless)]
    return Row(meaning, frozenset(names.split()), patterns[0], frozenset(statuses), patterns[1])


#: The model has no images or no tools, whatever the status.
_UNSUPPORTED_WORDING = r"""
    (images?|vision|multimodal)\ (input|inputs|data|content)?\ ?(is|are)\ not\ supported
    | (does\ not|doesn't|do\ not|don't)\ support\ (images?|vision|multimodal|tools?|tool[ ]use|function[ ]call)
    | image_url\ is\ only\ supported\ by | is\ not\ a\ multimodal\ model | at\ most\ 0\ images?
    | no\ endpoints\ found\ that\ support\ (image|tool) | tools?\ (param\ |choice\ )?requires\ --
    | missing\ data\ required\ for\ image\ input
    """
#: An error that repeats until the prompt is shorter, whatever the status.
_TOO_LONG_WORDING = r"""
    context[ _]?(length|window)[ _]?exceeded
    | exceed(s|ed|ing)?\ (the\ |model's\ |available\ |this\ model's\ )*(maximum\ )?context
    | maximum\ (context|model|prompt|input|sequence)\ length
    | longer\ than\ the\ (maximum|model's)\ (model|context)
    | max(imum)?[ _](seq|sequence|context|position)[ _](len|length|embeddings)\ ?\(?(of\ |is\ |[<>=])
    | (prompt|inputs?|request|messages?|conversation)(`|'|")?\ (is|are|was|were|too)\ (too\ )?(long|large)\b
    | (prompt|input|context|sequence)\ (tokens?\ )?(length|size|window)[^.]{0,60}
    (exceed|too\ (long|large)|greater\ than|over\ the|longer\ than)
    | (input|prompt|messages)[^.]{0,40}\ tokens?[^.]{0,30}\ exceed
    | exceed[^.]{0,40}(context|prompt|input)[ _](length|size|window|limit|tokens?)\b
    | (greater|longer|larger)\ than\ (the\ )?(model's\ )?(maximum\ )?(context|max_seq_len|n_ctx)
    | (input|prompt)\ text\ is\ too\ long | max_tokens\ \(\d+\)\ must\ be\ <=
    | too\ (long|big|large)\ for\ the\ (model|context) | maximum\ context
    | number\ of\ tokens[^.]{0,40}exceeds\ the\ model | maximum\ number\ of\ tokens\ (for|allowed)
    | too\ many\ (input\ |prompt\ )?tokens | prompt\ has\ too\ many
    | (request|prompt)[^.]{0,80}\ too\ large\ for\ model
    | (reduce|shorten)\ (the\ length\ of\ |the\ number\ of\ tokens\ in\ )?(the\ |your\ )?(messages|prompt|input)\b
    | reduce\ your\ (message\ size|prompt) | shorter\ (prompt|input)\b | provide\ a\ shorter
    | exceed(s|ed)?\ (the\ )?(model\ )?token\ limit | token\ limit\ (exceeded|reached)
    | exceeded\ model\ token\ limit | exceeds\ the\ (limit|maximum\ number)\ of\ (\d+|(input\ )?tokens)
    | exceeds?\ max(imum)?\ (length|input|prompt)
    | (input|prompt|message)[^.]{0,20}\ tokens?\ count[^.]{0,60}(exceeds|only\ supports)
    | input\ or\ output\ tokens\ must\ be\ reduced | exceeds?\ the\ maximum\ allowed\ length
    | `?inputs`?\ (tokens\ \+|must\ have\ less\ than) | `max_new_tokens`\ must\ be\ <=
    | \(truncated\)\ input\ is\ too | index\ \d+\ is\ out\ of\ bounds
    | (longest\ allowed|longer\ than\ the\ specified\ maximum) | input\ is\ too\ large\ to\ process
    | context\ (size|window|length)\ (has\ been\ |was\ )?(exceeded|overflow|is\ full)
    | context\ shift\ is\ disabled | n_keep\b.*n_ctx | (context|with\ a)\ (the\ )?overflows?
    | range\ of\ input\ length\ should\ be | current\ length\ is\ \d+\ while\ limit\ is
    | exceeds?\ (the\ )?(max|maximum)?[ _]?(num|input|model|seq)[ _]?(tokens|len)\b
    | expected\ maxlength:\ \d+,\ actual | string\ too\ long\.\ expected | body\ too\ large\ for
    | (payload|entity|content|body)\ (is\ )?too\ large | maximum\ (request\ )?body\ size
    | request\ exceeds\ the\ maximum\ size | exceed(s|ed)?[^.]{0,20}\ context\ (limit|size|window|length)
    | should\ not\ exceed\ max_(num_tokens|seq_len|input_len)
"""

#: The limit on the reply alone: no shorter prompt would help.
_LIMIT_OF_REPLY = r"max_tokens\ is\ too\ large:\ \d+\.\ this\ model\ supports\ at\ most"

#: Tokens and a limit in one sentence, in no server's known words.
_TOKENS_AND_LIMIT = r"""
    \btokens?\b[^.\n]{0,80}\b(exceed\w*|above|over|beyond)\b | \b(exceed\w*|above|over|beyond)\b[^.\n]{0,80}\btokens?\b
    | (context\ window|maximum\ length)\ (of\ this\ model\ )?is\ \d+
    | (prompt|input|messages?|conversation|text)\b[^.\n]{0,60}\b(exceeds?|over|above)\ (the\ )?(limit|length|maximum)
    | \b(input|prompt)\ over\ length | max(imum)?\ (input|prompt)\ (characters|length)
"""

_CONTENT_WORDING = r"""
    contentpolicyviolation
    | content[ _](management\ )?(filter|policy|policies)\b(?!\W*(api|settings)) | content[ _]filter(ing|ed)?\b
    | (filtered|blocked|flagged|rejected)[^.]{0,60}(safety|content|policy|moderation|guardrail|usage\ (policy|policies))
    | (safety|moderation|guardrail|usage)[^.]{0,30}\ (violat|blocked|flagged|rejected|intervened)
    | input\ was\ flagged | was\ flagged\ (as|for)
    | violat(es|ed|ing|ion)\ (of\ )?[^.]{0,40}(polic|guideline|guardrail|usage)
    | blocked\ by\ (the\ )?(safety|content|moderation|guardrail) | block_?reason | content\ exists\ risk
    | considered\ high\ risk | inappropriate\ content
    | sensitive\ (content|words?|information)\ (was\ )?(detected|found) | new_sensitive
    | prompt\ (was\ |is\ )?(blocked|flagged|rejected) | safety\ (system|filters?|check) | 不安全 | 敏感 | 违规
"""

_CREDITS_WORDING = r"""
    insufficient\ (account\ )?(balance|credits?|funds|quota) | credit\ balance\ is\ too\ low | out\ of\ credits
    | exceeded\ your\ (current\ quota|monthly\ (included\ |spending\ )?(credits|limit|budget))
    | no\ credits\ (left|remaining) | billing\ (hard\ )?limit | budget\ has\ been\ exceeded
    | requires\ (more|at\ least|a\ paid)\ [^.]{0,20}(credits|plan) | never\ purchased\ credits
    | (plan|account)[^.]{0,30}billing\ details | account\ is\ in\ (arrears|good\ standing)
    | credit\ limit\ exceeded | 额度不足 | spending\ limit[^.]{0,20}reached | recharge | 余额不足 | 欠费
"""

_LOADING_WORDING = r"""
    (model|server|engine|endpoint|deployment|weights)\b[^.]{0,100}\b
    (is|are|still|currently|being)\ (\w+\ )?(loading|loaded|starting|initializ|warming|deploying|provision|paused|scal)
    | ^loading\ model\b | model\ (is\ )?not\ (yet\ )?(ready|loaded\ yet)
    | warming\ up | waiting\ for\ llama\ runner\ to\ start | cold\ start
    | still\ loading | scal(ing|ed)\ (up\ )?(from|to)\ zero | currently\ loading | being\ loaded
    | no\ healthy\ upstream
"""

_NO_SUCH_MODEL_WORDING = (
    r"model\b.*\b(not\ exist|not\ found|unknown|not\ available\b)|(no\ such|unknown|invalid)\ model"
)

#: Statuses under which a server may be loading.
_NOT_READY = (200, 404, 409, 424, 425, 429, 500, 502, 503, 504)

TABLE = (
    _row(Meaning.UNSUPPORTED, wording=_UNSUPPORTED_WORDING, statuses=(200, 400, 404, 422, 500, 501)),
    _row(
        Meaning.TOO_LONG,
        """contextlengthexceeded tokenslimitreached exceedcontextsizeerror contextwindowexceedederror requesttoolarge
        contextwindowexceeded promptistoolong prompttoolong stringabovemaxlength modelmaxprompttokensexceeded
        modelcontextwindowexceeded maxtokensexceeded inputtoolong contexttoolong payloadtoolarge requestbodytoolarge
        1261 tokenlimitexceeded inputlengthexceeded contextlimitexceeded contextoverflow 3051""",
        _TOO_LONG_WORDING,
        unless=rf"{_LIMIT_OF_REPLY} | invalid\ 'user' | please\ wait\ before | used\ \d+,\ requested",
    ),
    _row(
        Meaning.CONTENT,
        """contentfilter contentfiltered contentpolicyviolation responsibleaipolicyviolation contentfiltererror
        contentpolicyviolationerror contentmoderation moderationblocked moderation datainspectionfailed invalidprompt
        guardrailviolation guardrailintervened promptblocked sensitivewordsdetected censorshipblocked unsafecontent 1301
        sensitivecontentdetected inputtextsensitivecontentdetected outputtextsensitivecontentdetected prohibitedcontent
        safety blocklist recitation contentviolation inappropriatecontent cyberpolicyviolation spii safetyviolations""",
        _CONTENT_WORDING,
        statuses=(200, 400, 403, 406, 422, 424, 446, 451, 500),
    ),
    _row(
        Meaning.CREDITS,
        """insufficientquota billinghardlimitreached billingnotactive insufficientbalance insufficientuserquota
        creditbalancetoolow exceededcurrentquotaerror paymentrequired budgetexceeded accountdeactivated arrearage
        insufficientcredits creditlimit billingerror notenoughcredits spendlimitreached quotaexhausted
        1113 outofcredits""",
        _CREDITS_WORDING,
    ),
    _row(Meaning.LOADING, "modelloading modelnotready", _LOADING_WORDING, statuses=_NOT_READY),
    _row(
        Meaning.TOKEN,
        """invalidapikey authenticationerror unauthorized unauthenticated permissiondenied permissionerror apikeyinvalid
        permissiondeniederror authorizationerror invalidauthentication forbidden accessdenied incorrectapikeyerror""",
        r"api\ key\ not\ valid | (invalid|incorrect)\ api[ -]key",
        statuses=(200, 400, 401, 403),
    ),
    _row(
        Meaning.NO_SUCH_MODEL, "modelnotfound nosuchmodel modelnotfounderror", _NO_SUCH_MODEL_WORDING, statuses=(404,)
    ),
    _row(
        Meaning.RATE,
        """ratelimitexceeded ratelimiterror ratelimit resourceexhausted toomanyrequests ratelimited throttlingexception
        throttling requestlimitreached ratelimitreached""",
        r"rate[ _-]?limit | too\ many\ requests",
        statuses=(200, 429),
    ),
    _row(
        Meaning.OVERLOADED,
        """overloaded overloadederror serveroverloaded unavailable serviceunavailable serviceunavailableerror
        engineoverloaded engineoverloadederror unavailableerror capacityexceeded modeloverloaded""",
        r"""overload | server\ (is\ )?busy | at\ capacity
        | no\ (available|healthy)\ (server|provider|instance|upstream|endpoint)s?""",
        statuses=(200, 500, 502, 503, 529),
    ),
    _row(
        Meaning.TOO_LONG,
        "336007 336003 10907",
        _TOKENS_AND_LIMIT,
        statuses=(200, 400, 422, 500),
        unless=r"(output|completion)\ tokens | \bmax_(new_|completion_|output_)?tokens\b | per[ -](min|day)",
    ),
    _row(
        Meaning.REFUSED,
        """validation invalidrequesterror badrequesterror badrequest invalidargument unsupportedparameter
        unsupportedvalue invalidparameter failedprecondition unknownparameter notfounderror""",
        statuses=(200,),
    ),
)

#: What a status means where no row fits.
STATUSES = {
    **dict.fromkeys((404, 405, 410), Meaning.NOT_FOUND),
    # With those of nginx, IIS and Amazon's load balancer for a connection that was lost on the way.
    **dict.fromkeys((408, 409, 421, 423, 424, 425, 440, 444, 449, 460, 499), Meaning.BUSY),
    401: Meaning.TOKEN,
    402: Meaning.CREDITS,
    403: Meaning.TOKEN,
    407: Meaning.PROXY,
    413: Meaning.TOO_LONG,
    429: Meaning.RATE,
    446: Meaning.CONTENT,
    451: Meaning.CONTENT,
    **dict.fromkeys((498, 502, 503, 521, 522, 523, 529, 530), Meaning.UNAVAILABLE),
}
#: Under these the status says more than a name that fits many errors.
_PLAIN = {Meaning.TOKEN, Meaning.RATE, Meaning.OVERLOADED, Meaning.REFUSED}
#: Under 429 a wording of length is the wording of a rate, but for these.
_TOO_LARGE_AT_ALL = re.compile(r"request too large|must be reduced|reduce your message size", re.IGNORECASE)


def meaning(status: int, names: tuple[str, ...], text: str, *, waits: bool = False) -> Meaning:
    """What an error means.

    `status` is the HTTP status, or the one in a document under 200. `text` holds all texts of the error. `waits` says
    whether the server names a time after which to try again.
    """
    if status == 413 or (status == 429 and _TOO_LARGE_AT_ALL.search(text)):
        return Meaning.TOO_LONG
    plain = {re.sub(r"[_.\-]", "", name.lower()) for name in names}
    for row in TABLE:
        if _fits(row, status, plain, text, waits):
            return row.meaning
    if status in STATUSES:
        return STATUSES[status]
    return Meaning.REFUSED if 400 <= status < 500 else Meaning.FAILED


def _fits(row: Row, status: int, names: set[str], text: str, waits: bool) -> bool:
    if row.unless is not None and row.unless.search(text):
        return False
    here = not row.statuses or status in row.statuses
    if not row.names.isdisjoint(names) and (here or row.meaning not in _PLAIN):
        return True
    if row.wording is None or not here:
        return False
    # A limit for a minute or a day may be worded as a length (OpenAI) or as a quota (Gemini).
    limit = (row.meaning is Meaning.TOO_LONG and status == 429) or (row.meaning is Meaning.CREDITS and waits)
    return not limit and row.wording.search(text) is not None
