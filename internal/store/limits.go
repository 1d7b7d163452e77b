package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// HitTake asks for some hits under a limit.
type HitTake struct {
	Tenant string
	// Key is a keyed hash of what is limited.
	Key [32]byte
	// Wanted hits; as many of them as there is room for are granted.
	Wanted int
	// Max hits in any Window.
	Max    int
	Window time.Duration
	// Timeout bounds the statement in the server, lock waits included.
	Timeout time.Duration
}

// HitsTaken is what was granted.
type HitsTaken struct {
	// Granted of the wanted hits: they count now.
	Granted int
	// Used hits count in the window, the granted ones included.
	Used int
	// FreeIn is when the next one falls out of the window and makes room.
	FreeIn time.Duration
}

// TakeHits grants hits in one round trip. The row's lock puts those who take at once in an order, and the clock, the database's
// own, is read once it is held.
func (d *Dataplane) TakeHits(ctx context.Context, t HitTake) (HitsTaken, error) {
	var got HitsTaken
	err := d.oneTrip(ctx, t.Tenant, func(b *pgx.Batch) {
		b.Queue(`SELECT set_config('statement_timeout', $1::bigint::text, true)`, t.Timeout.Milliseconds())
		b.Queue(
			`SELECT granted, used, free_in FROM caly_take_hits($1, $2, $3, $4, $5)`,
			t.Tenant,
			t.Key[:],
			t.Wanted,
			t.Max,
			t.Window,
		).
			QueryRow(func(row pgx.Row) error { return row.Scan(&got.Granted, &got.Used, &got.FreeIn) })
	})
	return got, err
}

// HitReturn gives back one hit of a key.
type HitReturn struct {
	Tenant string
	Key    [32]byte
	// Timeout bounds the statement in the server, lock waits included.
	Timeout time.Duration
}

// ReturnHit removes the latest hit of a key. Which of several hits it is makes no difference to their number.
func (d *Dataplane) ReturnHit(ctx context.Context, r HitReturn) error {
	return d.oneTrip(ctx, r.Tenant, func(b *pgx.Batch) {
		b.Queue(`SELECT set_config('statement_timeout', $1::bigint::text, true)`, r.Timeout.Milliseconds())
		b.Queue(`UPDATE rate_limits SET hits = trim_array(hits, 1) WHERE tenant = $1 AND key = $2 AND hits <> '{}'`,
			r.Tenant, r.Key[:])
	})
}

// SweepHits removes rows in which no hit counts any more, up to limit, and returns how many. It is the operator's.
func (d *Operator) SweepHits(ctx context.Context, limit int) (int64, error) {
	tag, err := d.pool.Exec(ctx, `
		WITH old AS (SELECT tenant, key FROM rate_limits WHERE expires_at < clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED)
		DELETE FROM rate_limits r USING old WHERE r.tenant = old.tenant AND r.key = old.key`, limit)
	return tag.RowsAffected(), explain(err)
}
