package dbconn

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/caly-dev/caly/internal/bounded"
)

// SQLSTATE codes that Caly's programs decide by. PostgreSQL's documentation, appendix "PostgreSQL Error Codes".
const (
	featureNotSupported   = "0A000"
	protocolViolation     = "08P01"
	UnreadableText        = "22021"
	UniqueViolation       = "23505"
	ReadOnlyTransaction   = "25006"
	unknownStatement      = "26000"
	InsufficientPrivilege = "42501"
	UndefinedObject       = "42704"
	UndefinedTable        = "42P01"
	knownStatement        = "42P05"
	lockNotAvailable      = "55P03"
)

// maxSentence bounds the server's sentence in bytes.
const maxSentence = 400

// Says returns the server's sentence and its code.
func Says(pg *pgconn.PgError) string {
	return fmt.Sprintf("PostgreSQL says: %s (%s)", bounded.Text(pg.Message, maxSentence), bounded.Text(pg.Code, 5))
}

// Explain returns the server's sentence and what to do, if that is known.
func Explain(pg *pgconn.PgError) string {
	if what := Advice(pg); what != "" {
		return Says(pg) + ": " + what
	}
	return Says(pg)
}

// Advice returns what to do about an error, or nothing.
func Advice(pg *pgconn.PgError) string {
	for _, c := range causes {
		if c.code == pg.Code && (c.routine == "" || c.routine == pg.Routine) && strings.Contains(pg.Message, c.text) {
			return c.advice
		}
	}
	return ""
}

// isPlanOutdated reports whether a prepared statement no longer fits a table that a migration changed.
// PostgreSQL, src/backend/utils/cache/plancache.c, RevalidateCachedQuery. The same code has other meanings.
func isPlanOutdated(pg *pgconn.PgError) bool {
	return pg.Code == featureNotSupported && pg.Routine == "RevalidateCachedQuery"
}

// ErrUnavailable means that no server accepts connections and writes now. Later one may.
var ErrUnavailable = errors.New("database unavailable")

// IsTransient reports whether an error is about the moment: the same statement may succeed later or on another
// connection.
func IsTransient(pg *pgconn.PgError) bool {
	switch pg.Code {
	case unknownStatement, knownStatement, lockNotAvailable:
		return true
	}
	if isPlanOutdated(pg) {
		return true
	}
	// Connection, transaction state (a read-only server, a timeout), rollback (a deadlock), resources, intervention of
	// an operator (a shutdown, a timeout) and errors of the system.
	return slices.Contains([]string{"08", "25", "40", "53", "57", "58"}, pg.Code[:min(2, len(pg.Code))])
}

// LacksConnect reports whether a login was rejected since the role may not connect to the database. PostgreSQL answers
// 42501. PgBouncer passes on the sentence, but with its own code (kill_pool_logins).
func LacksConnect(pg *pgconn.PgError) bool {
	return pg.Code == InsufficientPrivilege ||
		pg.Code == protocolViolation && strings.Contains(pg.Message, "permission denied for database")
}

const (
	checkLogin = "check the user and the password in the database URL, and that the role exists and has not expired"
	reconnect  = "if the role was dropped and created again, restart the pod, or run RECONNECT in the pooler's console"
)

// causes are what to do about errors whose sentence does not say it. PgBouncer answers 08P01 where PostgreSQL has a
// code of its own, so only the sentence differs: PgBouncer 1.18, src/client.c, src/objects.c and src/janitor.c. Later
// versions answer 28P01 or 53300 to some of them.
var causes = []struct {
	code string
	// routine of the server and text of the sentence; empty: all.
	routine, text string
	advice        string
}{
	{code: "28P01", advice: checkLogin},
	{code: protocolViolation, text: "SASL authentication failed", advice: checkLogin},
	{code: protocolViolation, text: "password authentication failed", advice: checkLogin},
	{
		code:   protocolViolation,
		text:   "no such user",
		advice: checkLogin + ", and that PgBouncer's auth_query returns it",
	},
	{
		code:   protocolViolation,
		text:   "server login has been failing",
		advice: "PgBouncer cannot log in to the server as this role; its log has the server's answer",
	},
	{
		code:   protocolViolation,
		text:   "query_wait_timeout",
		advice: "PgBouncer got no connection to the server: the server is down, or default_pool_size is too small",
	},
	{
		code:   protocolViolation,
		text:   "no more connections allowed",
		advice: "raise max_client_conn of PgBouncer",
	},
	{
		code:   protocolViolation,
		text:   "too many connections for role",
		advice: "raise the role's CONNECTION LIMIT, or lower default_pool_size of PgBouncer",
	},
	{
		code:   "28000",
		advice: "let an administrator admit the role: it needs LOGIN, and an entry in pg_hba.conf for this address",
	},
	{code: "3D000", advice: "create the database, or correct its name in the database URL"},
	{
		code:   "53300",
		advice: "raise max_connections of the server or the role's CONNECTION LIMIT, or lower the pods' connections",
	},
	{
		code:   unknownStatement,
		advice: preparedBehindPooler,
	},
	{
		code:   knownStatement,
		advice: preparedBehindPooler,
	},
	{
		code:    featureNotSupported,
		routine: "RevalidateCachedQuery",
		advice:  "a migration changed the table; run RECONNECT in the console of a pooler that prepares statements",
	},
	{code: InsufficientPrivilege, text: "row-level security policy"}, // no grant changes that
	{code: InsufficientPrivilege, advice: "let the owner grant the privilege; " + reconnect},
	{code: UndefinedObject, routine: "GetUserNameFromId", advice: "the connection's role was dropped; " + reconnect},
}

const preparedBehindPooler = "a pooler in transaction mode is in between; " +
	"add default_query_exec_mode=cache_describe to the database URL"
