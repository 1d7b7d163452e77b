package store

import (
	"context"
	"net/netip"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/refreshtoken"
)

// Why a login session ended before its time. Other packages name these.
const (
	EndLogout  = "logout"
	EndRevoked = "revoked"
	EndReuse   = "reuse"
	EndTooMany = "too_many"
)

// Ends that the store alone names.
const (
	endLogoutAll       = "logout_all"
	endDisabled        = "disabled"
	endPasswordReset   = "password_reset"
	endPasswordChanged = "password_changed"
)

// MaxSessions bounds a user's live sessions; a login beyond ends the one that was seen least recently.
const MaxSessions = 50

// LoginSession is a sign-in of a user, as its owner may see it.
type LoginSession struct {
	ID, UserID string
	// Device and Address are where it was used last.
	Device                           string
	Address                          netip.Addr
	CreatedAt, LastSeenAt, ExpiresAt time.Time
}

const sessionColumns = `s.id::text, s.user_id::text, s.device, s.address, s.created_at, s.last_seen_at, s.expires_at`

// sessionFields are what sessionColumns are read into; address is set apart, being NULL when it is not known.
func (s *LoginSession) fields(address **netip.Addr) []any {
	return []any{&s.ID, &s.UserID, &s.Device, address, &s.CreatedAt, &s.LastSeenAt, &s.ExpiresAt}
}

// scanSession reads a login session, and further columns into more. A missing address stays invalid.
func scanSession(row pgx.Row, more ...any) (s LoginSession, err error) {
	var address *netip.Addr
	err = row.Scan(append(s.fields(&address), more...)...)
	if address != nil {
		s.Address = *address
	}
	return s, err
}

// NewSession is a login session to be.
type NewSession struct {
	// ID is NewID's; Key has refreshtoken.KeySize random bytes.
	ID, UserID string
	Key        []byte
	Lifetime   time.Duration
	// SeenHash is the hash that the password was checked against: if it has changed since, there is no session. NewHash, unless
	// empty, takes its place.
	SeenHash, NewHash string
}

// Started is a login session that was just begun.
type Started struct {
	User    User
	Session LoginSession
	// Now is the database's time, which revocations are told by: an access token must say that it was issued then.
	Now time.Time
}

// StartSession begins a login session. ErrNotFound when the user may not sign in, or no longer with that password.
func (d *Dataplane) StartSession(ctx context.Context, tenant string, n NewSession, by Origin) (st Started, err error) {
	by.ActorID = n.UserID
	by.SessionID = n.ID
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		st.User, err = scanUser(
			tx.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE tenant = $1 AND id = $2 AND password_hash = $3
			AND password_hash <> '' AND disabled_at IS NULL
				AND email_verified_at IS NOT NULL FOR NO KEY UPDATE`, tenant, n.UserID, n.SeenHash),
		)
		if err != nil {
			return err
		}
		if n.NewHash != "" {
			if err := setHash(ctx, tx, tenant, n.UserID, n.NewHash); err != nil {
				return err
			}
		}
		st.Session, err = scanSession(
			tx.QueryRow(
				ctx,
				`INSERT INTO login_sessions AS s (tenant, id, user_id, hmac_key, device, address, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval) RETURNING `+sessionColumns+`, now()`,
				tenant, n.ID, n.UserID, n.Key, cut(by.Device, 256), addressOrNull(by.Address), n.Lifetime,
			),
			&st.Now,
		)
		if err != nil {
			return err
		}
		if _, err := endSessions(ctx, tx, tenant, sessionsOf{
			UserID: n.UserID,
			Beyond: MaxSessions,
		}, EndTooMany); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(ActionLogin, st.User.Email))
	})
	return st, err
}

// ListSessions returns a user's live sessions, the one that was seen last first.
func (d *Dataplane) ListSessions(
	ctx context.Context, tenant, userID string, idle time.Duration,
) (list []LoginSession, err error) {
	err = d.oneTrip(ctx, tenant, func(b *pgx.Batch) {
		b.Queue(
			`SELECT `+sessionColumns+` FROM login_sessions s WHERE tenant = $1 AND user_id = $2 AND ended_at IS NULL AND expires_at > now()
			AND last_seen_at > now() - $3::interval ORDER BY last_seen_at DESC, id LIMIT $4`,
			tenant,
			userID,
			idle,
			MaxSessions,
		).Query(func(rows pgx.Rows) (err error) {
			list, err = pgx.CollectRows(
				rows, func(row pgx.CollectableRow) (LoginSession, error) { return scanSession(row) },
			)
			return err
		})
	})
	return list, err
}

// SessionEnd ends one login session.
type SessionEnd struct {
	UserID, SessionID string
	// Reason is stored with the session, Action with the row of the audit log.
	Reason, Action string
}

// EndSession ends one of a user's sessions. ErrNotFound when the user has no such live session.
func (d *Dataplane) EndSession(ctx context.Context, tenant string, e SessionEnd, by Origin) error {
	if !ValidID(e.SessionID) {
		return ErrNotFound
	}
	return d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		user, err := lockUser(ctx, tx, tenant, e.UserID)
		if err != nil {
			return err
		}
		ended, err := endSessions(ctx, tx, tenant, sessionsOf{UserID: e.UserID, Only: e.SessionID}, e.Reason)
		if err != nil {
			return err
		}
		if len(ended) == 0 {
			return ErrNotFound
		}
		audit := by.success(e.Action, user.Email)
		if e.SessionID != by.SessionID {
			audit.Reason = "session " + e.SessionID
		}
		return insertAudit(ctx, tx, tenant, audit)
	})
}

// EndSessions ends all of a user's sessions, this one too. It returns their ids.
func (d *Dataplane) EndSessions(ctx context.Context, tenant, userID string, by Origin) (ended []string, err error) {
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		user, err := lockUser(ctx, tx, tenant, userID)
		if err != nil {
			return err
		}
		if ended, err = endSessions(ctx, tx, tenant, sessionsOf{UserID: userID}, endLogoutAll); err != nil {
			return err
		}
		return insertAudit(ctx, tx, tenant, by.success(actionLogoutAll, user.Email))
	})
	return ended, err
}

// sessionsOf chooses live sessions of a user: all, but for what the other fields say.
type sessionsOf struct {
	UserID       string
	Only, Except string
	// Beyond spares that many, the ones that were seen last.
	Beyond int
}

// endSessions ends sessions, puts their refresh tokens on the blacklist and revokes their access. It returns their ids. Each is revoked by
// its own id: that holds for good, whatever the clocks say, and leaves alone the session that may begin in the same second.
func endSessions(ctx context.Context, tx pgx.Tx, tenant string, of sessionsOf, reason string) ([]string, error) {
	rows, err := tx.Query(
		ctx,
		`UPDATE login_sessions SET ended_at = now(), end_reason = $6 WHERE tenant = $1 AND id IN (
			SELECT id FROM login_sessions WHERE tenant = $1 AND user_id = $2 AND ended_at IS NULL
				AND ($3::uuid IS NULL OR id = $3)
			AND ($4::uuid IS NULL OR id <> $4) ORDER BY last_seen_at DESC, created_at DESC OFFSET $5)
				AND ended_at IS NULL
		RETURNING id::text, counter, hmac_key, expires_at`,
		tenant, of.UserID, orNull(of.Only), orNull(of.Except), of.Beyond, reason,
	)
	if err != nil {
		return nil, err
	}
	var ids []string
	var dead []deadToken
	var id string
	var counter int64
	var key []byte
	var expires time.Time
	_, err = pgx.ForEachRow(rows, []any{&id, &counter, &key, &expires}, func() error {
		ids = append(ids, id)
		dead = append(dead, deadToken{refreshtoken.Hash(refreshtoken.New(tenant, id, counter, key)), id, expires})
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if err := insertRevocation(ctx, tx, tenant, "", id); err != nil {
			return nil, err
		}
	}
	return ids, blacklist(ctx, tx, tenant, dead, reason)
}

// deadToken is a refresh token that is taken back.
type deadToken struct {
	hash      []byte
	sessionID string
	expires   time.Time
}

// blacklist stores the hashes of used refresh tokens of ended sessions until they expire, so that a reuse shows.
func blacklist(ctx context.Context, tx pgx.Tx, tenant string, dead []deadToken, reason string) error {
	if len(dead) == 0 {
		return nil
	}
	var hashes [][]byte
	var sessions []string
	var expires []time.Time
	for _, t := range dead {
		hashes = append(hashes, t.hash)
		sessions = append(sessions, t.sessionID)
		expires = append(expires, t.expires)
	}
	_, err := tx.Exec(ctx, `INSERT INTO refresh_token_blacklist (tenant, token_hash, session_id, expires_at, reason)
		SELECT $1, h, s::uuid, e, $5 FROM unnest($2::bytea[], $3::text[], $4::timestamptz[]) AS t(h, s, e)
			ON CONFLICT DO NOTHING`,
		tenant, hashes, sessions, expires, reason)
	return err
}

// setHash replaces a user's password hash in the caller's transaction.
func setHash(ctx context.Context, tx pgx.Tx, tenant, userID, hash string) error {
	_, err := tx.Exec(
		ctx,
		`UPDATE users SET password_hash = $3, updated_at = now() WHERE tenant = $1 AND id = $2`,
		tenant,
		userID,
		hash,
	)
	return err
}
