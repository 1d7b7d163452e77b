package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// variant of a flood: whose passwords are tried.
type variant struct {
	name  string
	email func(run, n int) string
}

var variants = []variant{
	{"one email", func(int, int) string { return userEmail(0) }},
	{"many emails", func(run, n int) string { return fmt.Sprintf("guess-%d-%d@bench.example", run, n) }},
}

// source is the address of a flood. Each has another: the one before is refused for a quarter of an hour.
func (r *rig) source() string {
	r.floods++
	return fmt.Sprintf("127.0.%d.%d", 1+r.floods/250, 1+r.floods%250)
}

// measureFlood compares authenticated calls during a flood with those without. A flood begins with each run: what it
// costs until its source is known is in it.
func (r *rig) measureFlood(ctx context.Context) ([]ratio, error) {
	idle, own := r.server.memory(), r.server.mostOwn()
	var calm []time.Duration
	during := make([][]time.Duration, len(variants))
	var before, ownBefore, peak float64
	for round := range r.o.rounds + 1 {
		alone := r.steady(ctx, r.o.duration())
		if round == 0 {
			before, ownBefore = r.server.memory().peak, own() // no flood has been yet
			own = r.server.mostOwn()
		} else {
			calm = append(calm, percentile(alone.latencies, 0.99))
		}
		fmt.Printf("round %d, no flood       %s   %s\n", round, alone, r.server.memory())
		for i, v := range variants {
			p99 := r.duringFlood(ctx, round, v)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if round > 0 {
				during[i] = append(during[i], p99)
			}
		}
	}
	peak = r.server.memory().peak
	ownPeak := own()
	time.Sleep(r.o.duration())
	fmt.Printf(
		"resident memory: idle %s; peak without a flood %.0f MB (%.0f its own), under it %.0f MB (%.0f its own); %s "+
			"after: %s\n",
		idle, before, ownBefore, peak, ownPeak, r.o.duration(), r.server.memory(),
	)
	worst := 0.0
	for i, v := range variants {
		ratio := over(during[i], calm)
		fmt.Printf(
			"p99 during a flood, %s: %s against %s without, %.2f times\n",
			v.name,
			short(median(during[i])),
			short(median(calm)),
			ratio,
		)
		worst = max(worst, ratio)
	}
	return []ratio{
		{"auth.api_p99_under_login_flood", worst, 2},
		{"auth.memory_under_login_flood", peak / before, 2},
	}, nil
}

// duringFlood returns the p99 of calls during a flood, and shows that of its second half alone: what is left once the source is known.
func (r *rig) duringFlood(ctx context.Context, round int, v variant) time.Duration {
	from := r.source()
	run, half := r.floods, r.o.duration()/2
	flood := make(chan outcomes, 1)
	go func() { flood <- r.attack(ctx, from, func(n int) string { return v.email(run, n) }, 2*half) }()
	first, then := r.steady(ctx, half), r.steady(ctx, half)
	got := <-flood
	all := calls{latencies: append(slices.Clone(first.latencies), then.latencies...), failed: first.failed}
	for status, n := range then.failed {
		all.failed[status] += n
	}
	fmt.Printf(
		"round %d, %-11s    %s   %s; second half: p99 %s; the flood's answers: %s\n",
		round,
		v.name,
		all,
		r.server.memory(),
		short(percentile(then.latencies, 0.99)),
		got,
	)
	return percentile(all.latencies, 0.99)
}

func short(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

// flushed is how long PostgreSQL's processes may keep their counters to themselves.
const flushed = 11 * time.Second

// measureDatabase counts the database's transactions for each login of a flood.
func (r *rig) measureDatabase(ctx context.Context) ([]ratio, error) {
	conn, err := pgx.Connect(ctx, r.o.dsnOwner)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	during := func(do func()) (n float64, err error) {
		before, err := transactions(ctx, conn)
		if err != nil {
			return 0, err
		}
		do()
		time.Sleep(flushed)
		after, err := transactions(ctx, conn)
		return after - before, err
	}
	time.Sleep(flushed)
	idle, err := during(func() { time.Sleep(r.o.duration()) })
	if err != nil {
		return nil, err
	}
	worst := 0.0
	for _, v := range variants {
		var got outcomes
		from := r.source()
		run := r.floods
		n, err := during(func() {
			got = r.attack(ctx, from, func(n int) string { return v.email(run, n) }, r.o.duration())
		})
		if err != nil {
			return nil, err
		}
		each := (n - idle) / float64(got.total())
		fmt.Printf("database, %-11s    %.0f transactions for %d logins (%s)\n", v.name, n-idle, got.total(), got)
		worst = max(worst, each)
	}
	return []ratio{{"auth.database_transactions_per_flood_login", worst, 3}}, nil
}

func transactions(ctx context.Context, conn *pgx.Conn) (n float64, err error) {
	err = conn.QueryRow(
		ctx, `SELECT (xact_commit + xact_rollback)::float8 FROM pg_stat_database WHERE datname = current_database()`,
	).Scan(&n)
	return n, err
}
