//! Every bound of the system, in one place; the README's table says the same.

use std::num::NonZeroU32;

/// Items of one batch mutation.
pub const BATCH_ITEMS_MAX: usize = 500;
/// Single writes that wait for a group writer or are on their way, per process.
pub const WRITES_WAITING_MAX: usize = 2_048;
/// Single writes of one user that wait for a group writer, per process.
pub const WRITES_WAITING_OF_USER_MAX: usize = 512;
/// Single writes that share a transaction. Of one user no more than of a batch: so many types may lose all
/// the events that were counted of them.
pub const GROUP_ITEMS_MAX: usize = BATCH_ITEMS_MAX;
/// Single writes of one user in a group that others are in as well.
pub const GROUP_ITEMS_OF_USER_MAX: usize = 16;
/// Groups that a process writes at once to PostgreSQL.
pub const GROUP_WRITERS: u32 = 2;
/// Connections for reads that may be of everything that a user has.
pub const HEAVY_READERS: u32 = 2;
/// Connections on which a process waits for rows that somebody else holds.
pub const LOCK_WAITERS: u32 = 3;
/// Milliseconds that such a wait lasts until another one has its turn.
pub const LOCK_TURN_MS_MAX: u64 = 500;
/// Batches and steps with imports of one user that wait for a lock, per process.
pub const LOCK_WAITING_OF_USER_MAX: usize = 64;
/// Milliseconds that one attempt to connect to the database may take.
pub const CONNECT_MS_MAX: u64 = 3_000;
/// Milliseconds that a statement waits for a connection, new or given back.
pub const ACQUIRE_MS_MAX: u64 = 10_000;
/// Milliseconds that a statement that writes may take.
pub const WRITE_MS_MAX: u64 = 10_000;
/// Milliseconds that a statement that reads may take.
pub const READ_MS_MAX: u64 = 15_000;
/// Milliseconds that a request may take until its user is known.
pub const IDENTIFY_MS_MAX: u64 = 8_000;
/// Milliseconds that an answer may take from then on. A mutation goes on, but nobody waits for it any longer.
pub const ANSWER_MS_MAX: u64 = 25_000;
/// Milliseconds that the clocks of a process and of its database may differ when it starts.
pub const CLOCK_SKEW_MS_MAX: i64 = 60_000;
/// Milliseconds that the question may take whether the database can be used.
pub const PROBE_MS_MAX: u64 = 3_000;
/// Milliseconds that a write waits for the row of its user, which somebody else holds.
pub const LOCK_WAIT_MS_MAX: u64 = 5_000;
/// Milliseconds after which PostgreSQL ends a transaction whose process does nothing.
pub const IDLE_IN_TRANSACTION_MS_MAX: u64 = 30_000;
/// Events of one `importEvents`.
pub const IMPORT_EVENTS_MAX: usize = 5_000;
/// Nodes of a page of a connection, and ids of `nodes`.
pub const PAGE_FIRST_MAX: i32 = 1_000;
/// Nodes of a page when neither `first` nor `last` is given.
pub const PAGE_FIRST_DEFAULT: i32 = 50;
/// Entries of a page of `changes`.
pub const CHANGES_FIRST_MAX: i32 = 5_000;
/// Entries of a page of `changes` when `first` is not given.
pub const CHANGES_FIRST_DEFAULT: i32 = 500;
/// Entries of one page of a subscription, which ends at its bytes if not before: what one stalled reader may hold in
/// memory.
pub const SUBSCRIPTION_PAGE_MAX: u64 = 100;
/// Sources of a user that `syncStatus` tells of, in the order of their names.
pub const SOURCES_MAX: usize = 1_000;
/// Values of one list of a filter.
pub const FILTER_VALUES_MAX: usize = 500;
/// Bytes of content of a page of events or of `changes`; its first entry comes whatever it weighs.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of one answer, as it is weighed before it is made.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Bytes of a request body.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of request bodies in memory, per process.
pub const BODIES_IN_MEMORY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes a second that a body comes with at least, once its first minute is over.
pub const BODY_BYTES_A_SECOND_MIN: usize = 64 * 1024;
/// Bytes read from a body whose sender is not known, so that the refusal gets through.
pub const ANONYMOUS_DRAIN_BYTES_MAX: usize = 64 * 1024;
/// Nesting of a JSON value in the variables.
pub const VARIABLES_DEPTH_MAX: usize = 32;
/// Bytes of a GraphQL document.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Lexical tokens of a document.
pub const QUERY_TOKENS_MAX: usize = 2_000;
/// Nesting of brackets of any kind in a document.
pub const QUERY_NESTING_MAX: usize = 64;
/// Depth of fields.
pub const QUERY_DEPTH_MAX: usize = 12;
/// Depth of fields under `__schema` and `__type`.
pub const INTROSPECTION_DEPTH_MAX: usize = 20;
/// Fragment definitions.
pub const QUERY_FRAGMENTS_MAX: usize = 50;
/// Selections once all fragments are spread.
pub const QUERY_SELECTIONS_MAX: u64 = 1_000;
/// Aliases, once all fragments are spread.
pub const QUERY_ALIASES_MAX: u64 = 15;
/// Fields at the root of the operation.
pub const QUERY_ROOT_FIELDS_MAX: u64 = 10;
/// Directives in a document.
pub const QUERY_DIRECTIVES_MAX: usize = 10;
/// Parsed documents kept by a process.
pub const DOCUMENT_CACHE_ENTRIES_MAX: usize = 512;

/// Bytes of a message on a WebSocket.
pub const SOCKET_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the id that a client gives an operation on a WebSocket.
pub const SOCKET_ID_BYTES_MAX: usize = 256;
/// Subscriptions of one WebSocket.
pub const SOCKET_SUBSCRIPTIONS_MAX: usize = 20;
/// Queries and mutations that one WebSocket runs at once; with as many, it reads no further.
pub const SOCKET_REQUESTS_MAX: usize = 20;

/// Bytes of the `sub` and of the `iss` of a token: together they fit into an index of PostgreSQL, which
/// takes 2 704 bytes.
pub const IDENTITY_BYTES_MAX: usize = 1_024;
/// Bytes of a key set (JWKS).
pub const JWKS_BYTES_MAX: usize = 1024 * 1024;

/// Milliseconds that the time inside a new client id may be ahead of the server.
pub const FUTURE_SKEW_MS_MAX: i64 = 60_000;
/// Up to this many milliseconds ahead, an id from the future is worth sending again.
pub const RETRY_AFTER_MS_MAX: i64 = 86_400_000;

/// Characters of the name of an event type.
pub const TYPE_NAME_CHARS_MAX: usize = 100;
/// Characters of a colour.
pub const COLOR_CHARS_MAX: usize = 32;
/// Characters of an icon.
pub const ICON_CHARS_MAX: usize = 64;
/// Characters of the notes of an event.
pub const NOTES_CHARS_MAX: usize = 10_000;
/// Characters of an external id.
pub const EXTERNAL_ID_CHARS_MAX: usize = 255;
/// Characters of the name of a location.
pub const LOCATION_NAME_CHARS_MAX: usize = 255;
/// Characters of the name of an import.
pub const IMPORT_NAME_CHARS_MAX: usize = 255;
/// Bytes of `properties` as canonical text.
pub const PROPERTIES_BYTES_MAX: usize = 16 * 1024;
/// Nesting of `properties`, its own braces counted.
pub const PROPERTIES_DEPTH_MAX: usize = 8;
/// Characters of the text that a search looks for: at least and at most.
pub const SEARCH_CHARS: std::ops::RangeInclusive<usize> = 2..=100;

/// Bytes of the payload of an import.
pub const PAYLOAD_BYTES_MAX: i64 = 4 * 1024 * 1024 * 1024;
/// Payloads that one process takes at once.
pub const UPLOADS_AT_ONCE_MAX: usize = 16;
/// Leases lost at one checkpoint behind which the next chunks are smaller, and behind which a record that
/// was alone in its chunk is refused.
pub const CRASHES_MAX: i32 = 3;
/// Bytes of one stored object of a payload.
pub const PAYLOAD_OBJECT_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of a payload once decoded.
pub const DECODED_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// Members of a zip archive that are looked at.
pub const ZIP_MEMBERS_MAX: u64 = 65_535;
/// Bytes of the list of all members of a zip archive.
pub const ZIP_DIRECTORY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Elements of an XML that stand inside of each other.
pub const XML_DEPTH_MAX: usize = 16;
/// Files of a zip archive that are called XML and looked into for an export of Apple Health.
pub const ZIP_EXPORTS_LOOKED_AT_MAX: usize = 32;
/// Columns of a CSV, and names in a list of its mapping.
pub const CSV_COLUMNS_MAX: usize = 4_096;
/// Characters of a name or value in a mapping.
pub const CSV_MAPPING_CHARS_MAX: usize = 255;
/// Lines before the header of a CSV.
pub const CSV_SKIPPED_LINES_MAX: u32 = 100;
/// Characters of a pattern of times in a mapping.
pub const CSV_PATTERN_CHARS_MAX: usize = 100;
/// Bytes that a frame of zstd may look back, as a power of two: 8 MiB, which RFC 8878 asks of every decoder.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Decoded bytes to one byte sent.
pub const DECODED_RATIO_MAX: u64 = 200;
/// Decoded bytes from which on the ratio is asked.
pub const DECODED_RATIO_FROM_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of each end of a file that a preview takes.
pub const PREVIEW_PART_BYTES_MAX: usize = 256 * 1024;
/// Rows that a preview shows, unless it is asked for fewer or more.
pub const PREVIEW_ROWS_DEFAULT: usize = 20;
/// Rows that a preview shows at most.
pub const PREVIEW_ROWS_MAX: usize = 100;
/// Decoded bytes that a preview reads.
pub const PREVIEW_DECODED_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Previews that one process makes at once.
pub const PREVIEWS_AT_ONCE_MAX: usize = 2;
/// Payloads that one process reads at once for their rejected records.
pub const PAYLOADS_READ_AT_ONCE_MAX: usize = 4;
/// Bytes of one record.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;
/// Characters of a rejected record that are kept.
pub const EXCERPT_CHARS_MAX: usize = 200;
/// Characters of the reason why a record was rejected.
pub const REJECTION_CHARS_MAX: usize = 2_000;
/// Rejections kept of one import; the counts go on.
pub const REJECTIONS_KEPT_MAX: i64 = 100_000;
/// Milliseconds of the day that the daily allowances of a user count.
pub const IMPORT_DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// Milliseconds after which it is worth to ask once more for an import that the daily allowance refused.
pub const DAY_RETRY_MS: i64 = 60 * 60 * 1000;
/// Milliseconds after which it is worth to ask once more for an import that was refused because others wait.
pub const WAITING_RETRY_MS: i64 = 60 * 1000;
/// Milliseconds that an import rests whose user had enough records today.
pub const IMPORT_REST_MS: i64 = 10 * 60 * 1000;
/// Milliseconds that the rejections of an ended import are kept.
pub const REJECTIONS_TTL_MS: i64 = 90 * 24 * 60 * 60 * 1000;
/// Milliseconds from the creation of an import to the last byte of its payload.
pub const UPLOAD_TTL_MS: i64 = 24 * 60 * 60 * 1000;

/// Records of one transaction of an import.
pub const CHUNK_RECORDS_MAX: usize = 500;
/// Chunks after which an import lets others go first.
pub const SLICE_CHUNKS_MAX: usize = 50;
/// Milliseconds after which an import lets others go first.
pub const SLICE_MS_MAX: u128 = 20_000;
/// Milliseconds that a claimed import is left alone without a sign of life.
pub const LEASE_TTL_MS: i64 = 30_000;
/// Milliseconds between two notifications for the same import.
pub const NOTIFY_EVERY_MS: i64 = 30_000;
/// Imports notified for in one tick of the sweeper, and notifies waiting in the queue.
pub const NOTIFICATIONS_MAX: u64 = 200;
/// Transient failures without progress after which an import fails.
pub const ATTEMPTS_MAX: i32 = 20;
/// First pause behind a transient failure, in milliseconds; it doubles.
pub const RETRY_FIRST_MS: i64 = 5_000;
/// Longest pause behind a transient failure, in milliseconds.
pub const RETRY_LONGEST_MS: i64 = 15 * 60 * 1000;

/// What the imports of one user may take; each a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportLimits {
    /// That run at once.
    pub running_max: u64,
    /// That wait for their payload or their turn.
    pub waiting_max: u64,
    /// Records a day; then they rest.
    pub records_a_day: Option<i64>,
    /// Bytes a day, those that came and those that are awaited; then no more are announced.
    pub bytes_a_day: Option<i64>,
}

impl Default for ImportLimits {
    fn default() -> Self {
        Self { running_max: 2, waiting_max: 20, records_a_day: None, bytes_a_day: None }
    }
}

/// Points that a bucket can be set to hold, and to get back in a second.
pub const RATE_LIMIT_MAX: u32 = 1_000_000_000;

/// How much one user may ask of one process; both settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Points at once.
    pub points: NonZeroU32,
    /// Points that come back in a second.
    pub per_second: NonZeroU32,
}

impl Default for RateLimit {
    fn default() -> Self {
        const POINTS: NonZeroU32 = NonZeroU32::new(20_000).expect("not zero");
        const PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");
        Self { points: POINTS, per_second: PER_SECOND }
    }
}

/// Verified tokens that a process remembers.
pub const TOKEN_CACHE_ENTRIES_MAX: usize = 10_000;

/// Users whose row is remembered by a process.
pub const USER_CACHE_ENTRIES_MAX: usize = 10_000;
