//! Defines the limits of the system. `docs/reference/limits.md` lists those that users meet.

use std::num::NonZeroU32;

/// The most items of one `createEvents` or `applyMutations`.
pub const BATCH_ITEMS_MAX: usize = 500;
/// The most single writes of all users that wait for a write group or are in one, in each process.
pub const WRITES_WAITING_MAX: usize = 2_048;
/// The most single writes of one user that wait for a write group, in each process. Fewer are allowed if the
/// writes of all users have little room left.
pub const WRITES_WAITING_OF_USER_MAX: usize = 512;
/// The most single writes in one write group. It must not exceed [`BATCH_ITEMS_MAX`]. A group of one user may
/// delete this many events of a type, and the events of a type are counted only up to one more than that.
pub const GROUP_ITEMS_MAX: usize = BATCH_ITEMS_MAX;
/// The most single writes of one user in a write group that has other users too.
pub const GROUP_ITEMS_OF_USER_MAX: usize = 16;
/// How many write groups a process stores in PostgreSQL at the same time.
pub const GROUP_WRITERS: u32 = 2;
/// How many database connections each process has for reads that may touch all rows of a user.
pub const HEAVY_READ_CONNECTIONS: u32 = 2;
/// How many connections to PostgreSQL each process has on which writes wait for a locked row.
pub const LOCK_WAITERS: u32 = 3;
/// How long a write may wait for a locked row before it must give the connection to another write and try
/// again, in milliseconds.
pub const LOCK_ATTEMPT_MS_MAX: u64 = 500;
/// The most writes of one user, steps of imports included, that wait for a lock or have it, in each process.
/// Heavy reads of one user are limited to the same number, and are counted apart.
pub const LOCK_WAITING_OF_USER_MAX: usize = 64;
/// How long one attempt to connect to the database may take, in milliseconds.
pub const CONNECT_MS_MAX: u64 = 3_000;
/// How long a statement or a transaction may wait for a connection of a pool, a new or a released one, in
/// milliseconds.
pub const ACQUIRE_MS_MAX: u64 = 10_000;
/// How long one SQL statement of a transaction that writes may take, in milliseconds.
pub const WRITE_MS_MAX: u64 = 10_000;
/// How long one SQL statement that only reads may take, in milliseconds.
pub const READ_MS_MAX: u64 = 15_000;
/// How long the database may take to find or create the user of a token, in milliseconds.
pub const IDENTIFY_MS_MAX: u64 = 8_000;
/// How long the execution of a GraphQL query or mutation may take, in milliseconds. After that its client
/// gets an error, but a mutation goes on.
pub const RESPONSE_MS_MAX: u64 = 25_000;
/// How far the clocks of a process and of PostgreSQL may differ, in milliseconds. It is checked only when the
/// process starts.
pub const CLOCK_SKEW_MS_MAX: i64 = 60_000;
/// How long the check whether the database is available may take, in milliseconds.
pub const PROBE_MS_MAX: u64 = 3_000;
/// How long a write waits for a row that another transaction has locked, in milliseconds. The time counts
/// from when the write was queued, but at least [`LOCK_ATTEMPT_MS_MAX`] are left.
pub const LOCK_WAIT_MS_MAX: u64 = 5_000;
/// After how long without a statement PostgreSQL ends an open transaction and its connection, in
/// milliseconds.
pub const IDLE_IN_TRANSACTION_MS_MAX: u64 = 30_000;
/// The most events of one `importEvents` mutation.
pub const IMPORT_EVENTS_MAX: usize = 5_000;
/// The most nodes of a page of a GraphQL connection, and the most ids of the query `nodes`.
pub const PAGE_FIRST_MAX: i32 = 1_000;
/// How many nodes a page of a GraphQL connection has if neither `first` nor `last` is given.
pub const PAGE_FIRST_DEFAULT: i32 = 50;
/// The most entries of a page of the query `changes`.
pub const CHANGES_FIRST_MAX: i32 = 5_000;
/// How many entries a page of the query `changes` has if `first` is not given.
pub const CHANGES_FIRST_DEFAULT: i32 = 500;
/// The most entries of one page of a subscription to changes, which is also bounded by its bytes. It bounds
/// the memory that a stalled client can hold.
pub const SUBSCRIPTION_PAGE_MAX: u64 = 100;
/// The most sources that `syncStatus` lists, in the order of their names.
pub const SOURCES_MAX: usize = 1_000;
/// The most values in one list of a filter.
pub const FILTER_VALUES_MAX: usize = 500;
/// The most bytes of content in a page of events or of `changes`. The first entry is always in the page,
/// whatever its size.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most bytes of one GraphQL response, as estimated before the response is built.
pub const RESPONSE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The most bytes of a request body, both as sent and decoded. The payload of an import has its own limit,
/// because it is streamed.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The most bytes of all request bodies in memory together, in each process.
pub const BODIES_IN_MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// The bytes a second at which a request body must arrive on average after its first minute. The client must
/// also take the records of `GET /imports/{id}/rejected` at this rate.
pub const BODY_BYTES_A_SECOND_MIN: usize = 64 * 1024;
/// How many bytes at most are read and discarded of the body of an unauthenticated request, so that its
/// client receives the refusal.
pub const UNAUTHENTICATED_DRAIN_BYTES_MAX: usize = 64 * 1024;
/// How deep the variables of a GraphQL request may be nested.
pub const VARIABLES_DEPTH_MAX: usize = 32;
/// The most bytes of a GraphQL document.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// The most lexical tokens of a GraphQL document.
pub const QUERY_TOKENS_MAX: usize = 2_000;
/// How deep brackets of any kind may be nested in a GraphQL document.
pub const QUERY_NESTING_MAX: usize = 64;
/// How deep fields may be nested in a GraphQL document, except below `__schema` and `__type`.
pub const QUERY_DEPTH_MAX: usize = 12;
/// How deep fields may be nested below `__schema` and `__type`, which count as the first level.
pub const INTROSPECTION_DEPTH_MAX: usize = 20;
/// The most fragment definitions in a GraphQL document.
pub const QUERY_FRAGMENTS_MAX: usize = 50;
/// The most selections of a GraphQL document, with all fragments spread.
pub const QUERY_SELECTIONS_MAX: u64 = 1_000;
/// The most aliased fields of a GraphQL document, with all fragments spread.
pub const QUERY_ALIASES_MAX: u64 = 15;
/// The most root fields of a GraphQL operation, with all fragments spread.
pub const QUERY_ROOT_FIELDS_MAX: u64 = 10;
/// The most directives in a GraphQL document.
pub const QUERY_DIRECTIVES_MAX: usize = 10;
/// The most parsed GraphQL documents that a process caches, and the most persisted ones.
pub const DOCUMENT_CACHE_ENTRIES_MAX: usize = 512;

/// The most bytes of a WebSocket message.
pub const SOCKET_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of the id that a client gives an operation on a WebSocket.
pub const SOCKET_ID_BYTES_MAX: usize = 256;
/// The most subscriptions on one WebSocket.
pub const SOCKET_SUBSCRIPTIONS_MAX: usize = 20;
/// The most queries and mutations that one WebSocket runs at the same time. At this number, the server reads
/// no further message.
pub const SOCKET_REQUESTS_MAX: usize = 20;

/// The most bytes of the `sub` of a token, and of its `iss`. Both together must fit into an index row of
/// PostgreSQL, which has at most 2 704 bytes.
pub const IDENTITY_BYTES_MAX: usize = 1_024;
/// The most bytes of a key set (JWKS).
pub const JWKS_BYTES_MAX: usize = 1024 * 1024;

/// How far the time in the id of a new row may be ahead of the server, in milliseconds.
pub const FUTURE_SKEW_MS_MAX: i64 = 60_000;
/// How far the time in a refused id may be ahead of the server so that the client is told to retry later, in
/// milliseconds.
pub const RETRY_AFTER_MS_MAX: i64 = 86_400_000;

/// The most characters of the name of an event type.
pub const TYPE_NAME_CHARS_MAX: usize = 100;
/// The most characters of the colour of an event type.
pub const COLOR_CHARS_MAX: usize = 32;
/// The most characters of the icon of an event type.
pub const ICON_CHARS_MAX: usize = 64;
/// The most characters of the notes of an event.
pub const NOTES_CHARS_MAX: usize = 10_000;
/// The most characters of an external id.
pub const EXTERNAL_ID_CHARS_MAX: usize = 255;
/// The most characters of the name of a location.
pub const LOCATION_NAME_CHARS_MAX: usize = 255;
/// The most characters of the name of an import.
pub const IMPORT_NAME_CHARS_MAX: usize = 255;
/// The most bytes of `properties` as canonical text.
pub const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// How deep `properties` may be nested. The outermost object counts as one level.
pub const PROPERTIES_DEPTH_MAX: usize = 8;
/// The fewest and the most characters of the text of a search for events.
pub const SEARCH_CHARS: std::ops::RangeInclusive<usize> = 2..=100;

/// The most bytes of the payload of an import, as sent.
pub const PAYLOAD_BYTES_MAX: i64 = 4 * 1024 * 1024 * 1024;
/// The most uploads of import payloads that one process receives at the same time.
pub const UPLOADS_AT_ONCE_MAX: usize = 16;
/// After how many leases lost at one checkpoint of an import its next chunks become smaller. A chunk of one
/// record is not made smaller: its record is rejected.
pub const CRASHES_MAX: i32 = 3;
/// The bytes of each object in which the payload of an import is stored. The last one may have fewer.
pub const PAYLOAD_OBJECT_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of the payload of an import after decompression.
pub const DECODED_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// The most members of a zip archive that is imported.
pub const ZIP_MEMBERS_MAX: u64 = 65_535;
/// The most bytes of the central directory of a zip archive that is imported.
pub const ZIP_DIRECTORY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How deep the XML elements of an Apple Health export may be nested.
pub const XML_DEPTH_MAX: usize = 16;
/// The most members of a zip archive with the extension `.xml` that are searched for an export of Apple
/// Health.
pub const ZIP_EXPORTS_LOOKED_AT_MAX: usize = 32;
/// The most columns of a CSV, and the most entries in a list of its mapping.
pub const CSV_COLUMNS_MAX: usize = 4_096;
/// The most characters of a column name in a mapping, or of a cell text that stands for a missing value.
pub const CSV_MAPPING_CHARS_MAX: usize = 255;
/// The most lines that a mapping may skip before the header of a CSV.
pub const CSV_SKIPPED_LINES_MAX: u32 = 100;
/// The most characters of a time pattern in a mapping.
pub const CSV_PATTERN_CHARS_MAX: usize = 100;
/// The greatest window of a zstd frame, as a power of two: 8 MiB, which RFC 8878 recommends that every
/// decoder supports.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The most decoded bytes for each byte sent, of a compressed payload and of a compressed request body.
pub const DECODED_RATIO_MAX: u64 = 200;
/// The number of decoded bytes of a payload above which the ratio [`DECODED_RATIO_MAX`] is checked.
pub const DECODED_RATIO_FROM_BYTES: u64 = 64 * 1024 * 1024;
/// The most bytes that a client may send of the beginning of a file, and of its end, for a preview.
pub const PREVIEW_PART_BYTES_MAX: usize = 256 * 1024;
/// How many records a preview shows if the request does not say how many.
pub const PREVIEW_ROWS_DEFAULT: usize = 20;
/// The most records that a preview may be asked to show.
pub const PREVIEW_ROWS_MAX: usize = 100;
/// The most decoded bytes that a preview reads.
pub const PREVIEW_DECODED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// The most previews that one process builds at the same time.
pub const PREVIEWS_AT_ONCE_MAX: usize = 2;
/// The most payloads that one process reads again at the same time, to return their rejected records.
pub const PAYLOADS_READ_AT_ONCE_MAX: usize = 4;
/// The most bytes of one record of an import.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// The most characters of the beginning of a rejected record that are stored.
pub const EXCERPT_CHARS_MAX: usize = 200;
/// The most characters that are stored of the reason why a record was rejected. The rest is cut off.
pub const REJECTION_CHARS_MAX: usize = 2_000;
/// The most rejected or differing records of one import that are stored one by one. The others are only
/// counted.
pub const REJECTIONS_KEPT_MAX: i64 = 100_000;
/// The period before the present over which the daily limit of import bytes counts, in milliseconds.
pub const IMPORT_DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How long a client is told to wait if the daily limit of bytes refuses a new import, in milliseconds.
pub const DAY_RETRY_MS: i64 = 60 * 60 * 1000;
/// How long a client is told to wait if a new import is refused because too many others wait, in
/// milliseconds.
pub const WAITING_RETRY_MS: i64 = 60 * 1000;
/// How long workers leave an import whose user has reached the daily limit of records, in milliseconds.
pub const IMPORT_PAUSE_MS: i64 = 10 * 60 * 1000;
/// How long the rejections of an ended import are stored, in milliseconds.
pub const REJECTIONS_TTL_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// How long a client has to upload the payload, in milliseconds: from the creation of the import, or from
/// when the server asked for the payload again.
pub const UPLOAD_TTL_MS: i64 = 24 * 60 * 60 * 1000;

/// The most records of a chunk of an import, which is stored in one transaction.
pub const CHUNK_RECORDS_MAX: usize = 500;
/// After how many chunks a worker leaves an import for another one, if another one waits.
pub const SLICE_CHUNKS_MAX: usize = 50;
/// After how many milliseconds a worker leaves an import for another one, if another one waits.
pub const SLICE_MS_MAX: u128 = 20_000;
/// How long the lease of an import lasts after its last renewal, in milliseconds.
pub const LEASE_TTL_MS: i64 = 30_000;
/// How long the sweeper waits before it notifies workers of the same import again, in milliseconds.
pub const NOTIFY_EVERY_MS: i64 = 30_000;
/// The most notifications that the sweeper sends to workers in one run, one for each import. Also the most
/// notifications in the queue.
pub const NOTIFICATIONS_MAX: u64 = 200;
/// After how many transient failures in a row without progress an import fails.
pub const ATTEMPTS_MAX: i32 = 20;
/// The first pause of an import after a transient failure, in milliseconds. It doubles with each further
/// failure.
pub const RETRY_FIRST_MS: i64 = 5_000;
/// The longest pause of an import after a transient failure, in milliseconds.
pub const RETRY_PAUSE_MS_MAX: i64 = 15 * 60 * 1000;

/// The limits of the imports of one user. Each is a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// How many imports may run at the same time. The others wait.
    pub running_max: u64,
    /// How many imports may wait for their payload or for a worker. At this number, none can be created.
    pub waiting_max: u64,
    /// How many records may be imported in 24 hours. At this number, the imports pause. `None` is no limit.
    pub records_a_day: Option<i64>,
    /// How many payload bytes the imports created in 24 hours may have together. No import that would exceed
    /// this can be created. `None` is no limit.
    pub bytes_a_day: Option<i64>,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self { running_max: 2, waiting_max: 20, records_a_day: None, bytes_a_day: None }
    }
}

/// The greatest value that an operator may set for either part of the rate limit, in points.
pub const RATE_LIMIT_MAX: u32 = 1_000_000_000;

/// The rate limit of one user in one process, a token bucket. Both values are settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// The points of a full bucket, which requests can spend at once.
    pub points: NonZeroU32,
    /// The points that the bucket of a user regains in a second.
    pub per_second: NonZeroU32,
}

impl Default for RateLimit {
    fn default() -> Self {
        const POINTS: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");
        const PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");
        Self { points: POINTS, per_second: PER_SECOND }
    }
}

/// The most verified tokens that a process caches.
pub const TOKEN_CACHE_ENTRIES_MAX: usize = 10_000;

/// The most users whose account a process caches.
pub const USER_CACHE_ENTRIES_MAX: usize = 10_000;

/// The most calendar buckets from the first to the last one of an answer with statistics.
pub const STATS_BUCKETS_MAX: usize = 5_000;
/// The most rows of an answer with statistics: buckets with their groups, and the units of their measures.
pub const STATS_ROWS_MAX: usize = 10_000;
/// The most rows that are collected of one event type before the best source of each day is known.
pub const STATS_DAY_ROWS_MAX: usize = 300_000;
/// How long it may take to answer a question for statistics, in milliseconds.
pub const STATS_MS_MAX: u64 = 10_000;
/// The most groups of a question for statistics.
pub const STATS_GROUPS_MAX: usize = 2;
/// The most measures of a question for statistics.
pub const STATS_MEASURES_MAX: usize = 3;
/// The most sources that a question for statistics can prefer.
pub const STATS_SOURCES_MAX: usize = 20;
/// The longest name of such a source, in characters.
pub const STATS_SOURCE_CHARS_MAX: usize = 255;
/// For how many living events of the user a question for statistics costs one more point.
pub const STATS_EVENTS_PER_POINT: u64 = 10_000;
/// The fewest and the most characters of a key in `properties` that a question for statistics names.
pub const PROPERTY_KEY_CHARS: std::ops::RangeInclusive<usize> = 1..=64;
/// The longest unit of a measure, in characters. A longer text counts as no unit.
pub const UNIT_CHARS_MAX: usize = 64;
/// The years whose events statistics count, as the first instant and the first one after them.
pub const STATS_INSTANTS: std::ops::Range<i64> = -2_208_988_800_000..4_102_444_800_000;
