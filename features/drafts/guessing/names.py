"""What names of columns say: which could be the user, the item, the action, the value.

A role lists names best first, as their words without anything between (`user_id`, `userId` and
`user.id` are all `userid`); a name that only has one of the words of the role comes after those.
Words that turn a name into something else, as `agent` does in `user_agent`, rule it out.
"""

from dataclasses import dataclass

from features.drafts.guessing.leaves import Leaf


@dataclass(frozen=True)
class Role:
    """Names of one field of an event."""

    names: tuple[str, ...]
    words: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()

    def rank(self, leaf: Leaf) -> float:
        """How well a leaf's name fits, from 0 for not at all to 100."""
        words = leaf.words
        if self.without.intersection(words):
            return 0
        for joined, most in ((leaf.joined, 100.0), (leaf.key, 90.0)):
            # A type, an id or a name within something is that thing's.
            if joined in self.names and (most == 100 or len(joined) > 5):
                return most - 40 * self.names.index(joined) / len(self.names) - len(leaf.path)
        ends = [name for name in self.names if len(name) > 5 and leaf.joined.endswith(name)]
        if ends:
            return 75 - 40 * self.names.index(ends[0]) / len(self.names) - len(leaf.path)
        found = self.words.intersection(words)
        return 30.0 - len(leaf.path) - len(words) if found else 0


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ATTRIBUTES = "name type country city region plan gender age locale language currency status count "
_ATTRIBUTES += "first last is has agent ip zip street phone company title"

# A person who is known, and a browser or device that stands for one who is not.
USER = Role(
    ("userid", "user", "uid", "customerid", "customer", "memberid", "member", "buyerid", "buyer",
     "accountid", "account", "userkey", "useruuid", "playerid", "personid", "contactid",
     "subscriberid", "shopperid", "patronid", "studentid", "reviewerid", "fullvisitorid",
     "distinctid", "profileid", "actorid", "authorid", "cid", "customeremail", "useremail",
     "billingemail", "email", "username", "login", "client", "clientid", "visitor", "person",
     "player", "subscriber", "用户", "用户id", "ユーザー"),
    _words("user customer client visitor member buyer account person player subscriber shopper "
           "用户"),
    _words(_ATTRIBUTES) - {"用户"},
)  # fmt: skip
DEVICE = Role(
    ("anonymousid", "userpseudoid", "visitorid", "deviceid", "cookieid", "cookie", "browserid",
     "domainuserid", "networkuserid", "fingerprint", "clientid", "distinctid", "device", "guid",
     "amplitudeid", "visidhigh", "visitor", "cip", "ip", "email", "billingemail",
     "customeremail"),
    _words("anonymous pseudo cookie device visitor"),
    _words(_ATTRIBUTES.replace(" ip", "")) | _words("model category brand os operating web"),
)  # fmt: skip
ITEM = Role(
    ("itemid", "productid", "lineitemsku", "itemsku", "productsku", "sku", "variantid",
     "articleid", "contentid", "movieid", "songid", "trackid", "asin", "stockcode", "isbn",
     "listingid", "hotelid", "businessid", "bookid", "videoid", "postid", "adid", "newsid",
     "courseid", "gameid", "recipeid", "poiid", "venueid", "productcode", "item", "product",
     "article", "movie", "song", "track", "book", "hotel", "video", "business", "商品", "商品id",
     "商品编号", "itemname", "productname", "lineitemname", "content", "listing", "reference",
     "pagelocation", "currenturl", "pageurl", "pagepath", "url", "uri", "csuristem", "pathname",
     "path", "page", "screenname", "pagetitle"),
    _words("item product sku article movie song track book hotel video listing"),
    _words("price quantity count category discount status taxable requires compare number total "
           "type vendor brand position amount tax currency image shipping sold referrer referer "
           "host library language duration query"),
)  # fmt: skip
ACTION = Role(
    ("event", "eventname", "action", "eventaction", "eventtype", "actiontype", "activity",
     "activitytype", "behavior", "behaviour", "behaviortype", "behaviourtype", "verb",
     "interaction", "interactiontype", "operation", "type", "kind", "hittype", "act", "事件",
     "行为", "name", "object"),
    _words("event action activity behavior behaviour"),
    _words("id uuid time timestamp date category label value sequence bundle offset count url user "
           "item product page version"),
)  # fmt: skip
VALUE = Role(
    ("value", "price", "amount", "revenue", "unitprice", "lineitemprice", "itemprice",
     "itemtotal", "linetotal", "purchaserevenue", "total", "ordertotal", "rating", "score",
     "stars", "quantity", "eventvalue", "grossamount", "金额", "价格"),
    _words("price amount revenue rating score stars value total"),
    _words("discount compare tax taxes shipping refund refunded refunds subtotal fee id count "
           "old original list currency max min"),
)  # fmt: skip
SESSION = Role(
    ("sessionid", "session", "gasessionid", "visitid", "idvisit", "domainsessionid", "sessionuuid",
     "sessionkey", "visit"),
    _words("session"),
    _words("time timestamp number count index duration start end engaged idx referrer"),
)  # fmt: skip
EVENT_ID = Role(
    ("eventid", "eventuuid", "insertid", "messageid", "uuid", "id", "guid", "hitid", "logid",
     "requestid", "xedgerequestid", "rowid", "idvisit", "编号"),
)  # fmt: skip
TIME = Role(
    ("timestamp", "eventtimestamp", "eventtime", "derivedtstamp", "occurredat", "time", "ts",
     "datetime", "eventdatetime", "tstamp", "hittimegmt", "invoicedate", "orderdate", "createdat",
     "datecreated", "created", "date", "eventdate", "when", "at", "时间", "日期"),
    _words("timestamp time tstamp ts datetime date created at when day hour occurred"),
)  # fmt: skip

# What makes a time another one than the event's: a little, and entirely.
_TECHNICAL = _words("received sent processed processing server collector upload uploaded loaded "
                    "etl ingested inserted original client dvce sending delivery "
                    "export")  # fmt: skip
_OTHER = _words("first last touch join joined birth birthday dob signup registered registration "
                "expires expiry expiration end ended cancelled canceled paid fulfilled refunded "
                "shipped due closed updated modified previous next session release published "
                "deleted completed")  # fmt: skip
_PERSON = _words("user customer person profile traits account member")


def time_rank(leaf: Leaf) -> float:
    """How well a leaf's name fits the time of an event."""
    words = set(leaf.words)
    rank = TIME.rank(leaf)
    rank -= 25 * bool(words & _TECHNICAL)
    rank -= 60 * bool(words & _OTHER)
    return rank - 60 * bool(words & _PERSON and len(leaf.path) > 1)


def is_of_a_table(leaf: Leaf) -> bool:
    """Whether a time by its name says since when something is, as tables of users have it."""
    words = set(leaf.words)
    return bool(words & (_OTHER | _words("created since"))) or bool(words & _PERSON)
