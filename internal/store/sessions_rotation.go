package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/caly-dev/caly/internal/refreshtoken"
)

// Rotation is what becomes of a session to which a refresh token came.
type Rotation int

// Rotations.
const (
	// RotateRefuse means that the token is not valid, and nothing changes.
	RotateRefuse Rotation = iota
	// RotateAdvance means that the next generation begins.
	RotateAdvance
	// RotateKeep returns the current generation again.
	RotateKeep
	// RotateRecover returns the current generation again and records that, since a thief would look the same.
	RotateRecover
	// RotateEnd means that the token was used before. The session ends.
	RotateEnd
)

// RefreshState is what decides about a refresh token: the session's row, locked, and its user's.
type RefreshState struct {
	Session LoginSession
	User    User
	// Key and Counter make the current token.
	Key     []byte
	Counter int64
	// Recovered is the last generation of a RotateRecover, 0 for none.
	Recovered int64
	// RotatedAt is when the current token was given last for the first time, or again by a RotateRecover.
	RotatedAt time.Time
	// Ended reports whether the session ended early.
	Ended bool
	// Blacklisted reports whether this very token was revoked.
	Blacklisted bool
	// Now is the database's time.
	Now time.Time
}

// Refresh is a refresh token that was sent for a login session.
type Refresh struct {
	SessionID string
	TokenHash []byte
	// Decide judges the token. It runs inside of the transaction, so it must not wait for anything.
	Decide func(RefreshState) Rotation
	// Mail notifies the user of a RotateEnd.
	Mail MailFor
}

// RotateSession locks the session, asks Decide about its refresh token, and applies the answer. It returns the state
// afterwards. ErrNotFound when there is no such session.
func (d *Dataplane) RotateSession(
	ctx context.Context, tenant string, r Refresh, by Origin,
) (st RefreshState, rotation Rotation, err error) {
	if !ValidID(r.SessionID) {
		return st, RotateRefuse, ErrNotFound
	}
	err = d.inTenant(ctx, tenant, func(tx pgx.Tx) error {
		if st, err = lockSession(ctx, tx, tenant, r.SessionID, r.TokenHash); err != nil {
			return err
		}
		by.ActorID = st.Session.UserID
		by.SessionID = r.SessionID
		switch rotation = r.Decide(st); rotation {
		case RotateRefuse:
			return nil
		case RotateEnd:
			return st.endReused(ctx, tx, tenant, r, by)
		}
		return st.rotate(ctx, tx, tenant, rotation, by)
	})
	return st, rotation, err
}

// lockSession locks the user before the session, as all do that end a user's sessions: the marks are taken in the order of their clauses.
func lockSession(ctx context.Context, tx pgx.Tx, tenant, id string, hash []byte) (st RefreshState, err error) {
	var endedAt *time.Time
	st.Session.ID = id
	row := tx.QueryRow(
		ctx,
		`SELECT `+userColumns+`, s.device, s.created_at, s.last_seen_at, s.expires_at, s.ended_at, s.hmac_key, s.counter,
			s.recovered, s.rotated_at, EXISTS (SELECT FROM refresh_token_blacklist b WHERE b.tenant = $1 AND b.token_hash = $3), now()
		FROM login_sessions s JOIN users u ON u.tenant = s.tenant AND u.id = s.user_id
		WHERE s.tenant = $1 AND s.id = $2 FOR SHARE OF u FOR UPDATE OF s`,
		tenant,
		id,
		hash,
	)
	loginSession := &st.Session
	st.User, err = scanUser(
		row,
		&loginSession.Device,
		&loginSession.CreatedAt,
		&loginSession.LastSeenAt,
		&loginSession.ExpiresAt,
		&endedAt,
		&st.Key,
		&st.Counter,
		&st.Recovered,
		&st.RotatedAt,
		&st.Blacklisted,
		&st.Now,
	)
	loginSession.UserID = st.User.ID
	st.Ended = endedAt != nil
	return st, err
}

// rotate writes the session's new state. The time of rotation is the row's own clock: a transaction that waited for the lock began earlier.
func (st *RefreshState) rotate(ctx context.Context, tx pgx.Tx, tenant string, r Rotation, by Origin) error {
	switch r {
	case RotateAdvance:
		st.Counter++
	case RotateRecover:
		st.Recovered = st.Counter
	}
	_, err := tx.Exec(
		ctx,
		`UPDATE login_sessions SET counter = $3, recovered = $4, last_seen_at = now(), device = $5, address = $6,
		rotated_at = CASE WHEN $7 THEN clock_timestamp() ELSE rotated_at END WHERE tenant = $1 AND id = $2`,
		tenant,
		st.Session.ID,
		st.Counter,
		st.Recovered,
		cut(by.Device, 256),
		addressOrNull(by.Address),
		r != RotateKeep,
	)
	return err
}

// endReused ends the session of a token that was used before: one of the two who used it should not have it, and nobody knows which.
func (st *RefreshState) endReused(ctx context.Context, tx pgx.Tx, tenant string, r Refresh, by Origin) error {
	if _, err := endSessions(ctx, tx, tenant, sessionsOf{
		UserID: st.User.ID,
		Only:   st.Session.ID,
	}, EndReuse); err != nil {
		return err
	}
	dead := []deadToken{{r.TokenHash, st.Session.ID, st.Session.ExpiresAt}}
	if err := blacklist(ctx, tx, tenant, dead, EndReuse); err != nil {
		return err
	}
	if err := send(ctx, tx, tenant, st.User, r.Mail); err != nil {
		return err
	}
	return insertAudit(
		ctx,
		tx,
		tenant,
		by.failure(actionRefreshReuse, st.User.Email, "a refresh token that was used before: the session was ended"),
	)
}

// RefreshToken is the session's current token.
func (st *RefreshState) RefreshToken(tenant string) string {
	return refreshtoken.New(tenant, st.Session.ID, st.Counter, st.Key)
}
