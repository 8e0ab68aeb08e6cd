"""Who visits, as PostHog tells it by the user agent and the address: people, bots, agents of AI, and scripts.

PostHog's list has some 300 bots; here are the best known. As there, a bot is known by a word of its user agent, which
has to be written as it is here, and an event without a user agent is taken for that of a script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

#: Writes a constant, a text or a list of texts.
Quote = Callable[[object], str]
#: Writes a call from its written arguments.
Writer = Callable[[Sequence[str], Quote], str]

# category: the kind of traffic that it belongs to, and its bots: a regular expression, the name, who runs it
_BOTS: Mapping[str, tuple[str, tuple[tuple[str, str, str], ...]]] = {
    "ai_crawler": (
        "AI Agent",
        (
            ("GPTBot", "GPTBot", "OpenAI"),
            ("ClaudeBot", "Claude", "Anthropic"),
            ("CCBot", "Common Crawl", "Common Crawl"),
            ("meta-externalagent", "Meta AI", "Meta"),
            ("Bytespider", "ByteDance", "ByteDance"),
            ("Amazonbot", "Amazon", "Amazon"),
        ),
    ),
    "ai_search": (
        "AI Agent",
        (
            ("OAI-SearchBot", "OpenAI Search", "OpenAI"),
            ("Claude-SearchBot", "Claude Search", "Anthropic"),
            ("PerplexityBot", "Perplexity", "Perplexity"),
            ("Applebot/", "Applebot", "Apple"),
        ),
    ),
    "ai_assistant": (
        "AI Agent",
        (
            ("ChatGPT-User", "ChatGPT", "OpenAI"),
            ("Claude-User", "Claude User", "Anthropic"),
            ("Perplexity-User", "Perplexity User", "Perplexity"),
            ("MistralAI-User", "Mistral AI", "Mistral"),
        ),
    ),
    "search_crawler": (
        "Bot",
        (
            ("Googlebot", "Googlebot", "Google"),
            ("[bB]ingbot", "Bingbot", "Microsoft"),
            ("DuckDuckBot", "DuckDuckGo", "DuckDuckGo"),
            ("YandexBot", "Yandex", "Yandex"),
            ("Baiduspider", "Baidu", "Baidu"),
        ),
    ),
    "seo_crawler": (
        "Bot",
        (
            ("AhrefsBot", "Ahrefs", "Ahrefs"),
            ("SemrushBot", "Semrush", "Semrush"),
            ("MJ12bot", "Majestic", "Majestic"),
            ("Lighthouse", "Lighthouse", "Google"),
        ),
    ),
    "social_crawler": (
        "Bot",
        (
            ("facebookexternalhit", "Facebook", "Meta"),
            ("Twitterbot", "Twitter", "X"),
            ("LinkedInBot", "LinkedIn", "LinkedIn"),
            ("Slackbot", "Slack", "Salesforce"),
        ),
    ),
    "monitoring": (
        "Bot",
        (
            ("Pingdom", "Pingdom", "SolarWinds"),
            ("UptimeRobot", "UptimeRobot", "UptimeRobot"),
        ),
    ),
    "http_client": (
        "Automation",
        (
            ("curl/", "curl", "curl"),
            ("Wget", "Wget", "GNU"),
            ("python-requests", "Python Requests", "Python"),
            ("httpx", "httpx", "Python"),
            ("aiohttp", "python-aiohttp", "Python"),
            ("Go-http-client", "Go HTTP", "Go"),
            ("okhttp", "OkHttp", "Square"),
        ),
    ),
    "headless_browser": (
        "Automation",
        (
            ("HeadlessChrome", "Headless Chrome", "Google"),
            ("PhantomJS", "PhantomJS", "PhantomJS"),
            ("Playwright", "Playwright", "Microsoft"),
            ("Selenium", "Selenium", "Selenium"),
        ),
    ),
}
_LABELS: tuple[dict[str, str], ...] = tuple(
    {"pattern": pattern, "name": name, "operator": operator, "category": category, "type": kind}
    for category, (kind, bots) in _BOTS.items()
    for pattern, name, operator in bots
)
# networks whose bots look like browsers, as IPv6 with the bits that count: of Google's and of Microsoft's crawlers
_NETWORKS = (("::ffff:66.249.64.0", 96 + 19, "Googlebot"), ("::ffff:157.55.39.0", 96 + 24, "Bingbot"))
_NO_AGENT = "^$"


def _bot_number(agent: str, quote: Quote) -> str:
    """Write which bot a user agent is of: 0 for none, one more than there are for a missing one."""
    patterns = [*(bot["pattern"] for bot in _LABELS), _NO_AGENT]
    return f"multiMatchAnyIndex(ifNull({agent}, ''), {quote(patterns)})"


def _within(address: str, network: str, bits: int, quote: Quote) -> str:
    known = f"toIPv6OrDefault(ifNull({address}, ''))"
    return f"equals(tupleElement(IPv6CIDRToRange({known}, {bits}), 1), toIPv6({quote(network)}))"


def _is_bot(args: Sequence[str], quote: Quote) -> str:
    signs = [f"notEquals({_bot_number(args[0], quote)}, 0)"]
    signs += [_within(args[1], network, bits, quote) for network, bits, _ in _NETWORKS] if len(args) > 1 else []
    return f"toBool({' OR '.join(signs)})"


def _label(label: str, regular: str, no_agent: str, args: Sequence[str], quote: Quote) -> str:
    """Write what a visitor is called.

    :param label: which one: ``name``, ``operator``, ``category`` or ``type``
    :param regular: what it is for a person
    :param no_agent: what it is without a user agent
    """
    rest = quote(regular)
    if len(args) > 1:
        named = {bot["name"]: bot[label] for bot in _LABELS}
        pairs = [f"{_within(args[1], network, bits, quote)}, {quote(named[name])}" for network, bits, name in _NETWORKS]
        rest = f"multiIf({', '.join(pairs)}, {rest})"
    number = _bot_number(args[0], quote)
    labels = quote([*(bot[label] for bot in _LABELS), no_agent])
    return f"if(equals({number}, 0), {rest}, arrayElement({labels}, {number}))"


_NOW: Mapping[str, Writer] = {
    "isLikelyBot": _is_bot,
    "getTrafficType": partial(_label, "type", "Regular", "Automation"),
    "getTrafficCategory": partial(_label, "category", "regular", "no_user_agent"),
    "getBotType": partial(_label, "category", "", "no_user_agent"),
    "getBotName": partial(_label, "name", "", ""),
    "getBotOperator": partial(_label, "operator", "", ""),
}
#: The functions of the user agent and, where it is given, the address; also under the names of their preview.
TRAFFIC: Mapping[str, Writer] = {
    **_NOW,
    **{f"__preview_{name}": writer for name, writer in _NOW.items() if name != "isLikelyBot"},
    "__preview_isBot": _is_bot,
}
