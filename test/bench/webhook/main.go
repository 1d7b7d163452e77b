// Command webhook compares the data plane's webhook path with pgbench inserting the same row into the same PostgreSQL with as many
// clients, in alternating runs. HTTP, verification, parsing and COMMIT are in ours; the server is a process of its own.
//
//	webhook -pgbench PATH        measures; the last lines are "ratio NAME VALUE"
//	webhook -trace               measures what traces cost; the last lines are "ratio NAME VALUE (LEAST to MOST)"
//	webhook serve                is the server, started by the former
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// options of one comparison.
type options struct {
	pgbench                string
	dsnDataplane, dsnAdmin string // from the environment: no secret in argv
	seconds, rounds        int
	workers                int
	recordings             bool
	trace                  bool
	against                string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := run
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		do = func(ctx context.Context, _ []string) error { return serve(ctx) }
	}
	if err := do(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-webhook:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("webhook", flag.ContinueOnError)
	fs.StringVar(&o.pgbench, "pgbench", "pgbench", "the pgbench binary")
	fs.IntVar(&o.seconds, "seconds", 5, "length of each run")
	fs.IntVar(&o.rounds, "rounds", 5, "counted rounds, after one that is not")
	fs.IntVar(&o.workers, "workers", 0, "transactions at once in the server; 0 is its default")
	fs.BoolVar(&o.recordings, "recordings", false, "let each event name a recording, which pgbench's row does not")
	fs.BoolVar(&o.trace, "trace", false, "compare the CPU time without traces and with them, in place of pgbench")
	fs.StringVar(&o.against, "against", "", "with -trace: this program of another version, to be compared too")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.dsnDataplane, o.dsnAdmin = os.Getenv(envDataplane), os.Getenv("CALY_BENCH_DSN_OWNER")
	if o.dsnDataplane == "" || o.dsnAdmin == "" {
		return o, errors.New(
			"CALY_BENCH_DSN_DATAPLANE and CALY_BENCH_DSN_OWNER must be set: run it with make bench-webhook",
		)
	}
	return o, nil
}

// series holds the runs of both sides with one number of clients.
type series struct {
	clients      int
	ours, theirs []result
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.trace {
		return compareTracing(ctx, o)
	}
	rig, err := newRig(ctx, o)
	if err != nil {
		return err
	}
	defer rig.close()
	fmt.Printf(
		"webhooks against pgbench -M prepared, %d s a run, %d rounds; %s, %d CPUs\n",
		o.seconds,
		o.rounds,
		runtime.GOARCH,
		runtime.NumCPU(),
	)
	all := []*series{{clients: 64}, {clients: 16}, {clients: 1}}
	for round := range o.rounds + 1 {
		for _, s := range all {
			if err := rig.measure(ctx, s, round); err != nil {
				return err
			}
		}
	}
	rate := func(r result) float64 { return r.rate }
	p50 := func(r result) float64 { return r.p50.Seconds() }
	p99 := func(r result) float64 { return r.p99.Seconds() }
	report("webhook.acks_vs_pgbench_16", all[1], rate)
	report("webhook.acks_vs_pgbench_64", all[0], rate)
	report("webhook.p99_vs_pgbench_64", all[0], p99)
	report("webhook.lone_p50_vs_insert", all[2], p50)
	return nil
}

// measure runs both sides once. The first round warms caches and is not counted.
func (r *rig) measure(ctx context.Context, s *series, round int) error {
	ours, err := load(ctx, r.addr, s.clients, r.duration(), r.o.recordings)
	if err != nil {
		return fmt.Errorf("webhooks with %d clients: %w", s.clients, err)
	}
	theirs, err := r.runPgbench(ctx, s.clients)
	if err != nil {
		return fmt.Errorf("pgbench with %d clients: %w", s.clients, err)
	}
	fmt.Printf("round %d, %2d clients   caly %s   pgbench %s\n", round, s.clients, ours, theirs)
	if round > 0 {
		s.ours, s.theirs = append(s.ours, ours), append(s.theirs, theirs)
	}
	return nil
}

// report prints the median over rounds of the ratio within each round, so that a drift of the machine's speed cancels out.
func report(name string, s *series, figure func(result) float64) {
	ratios := make([]float64, len(s.ours))
	for i := range s.ours {
		ratios[i] = figure(s.ours[i]) / figure(s.theirs[i])
	}
	slices.Sort(ratios)
	fmt.Printf("ratio %s %.3f\n", name, ratios[len(ratios)/2])
}

// result of one run of one side.
type result struct {
	rate     float64 // a second
	p50, p99 time.Duration
}

func (r result) String() string {
	return fmt.Sprintf("%6.0f/s p50 %7s p99 %8s", r.rate, r.p50.Round(time.Microsecond), r.p99.Round(time.Microsecond))
}

// summary of latencies, which it sorts.
func summary(latencies []time.Duration, over time.Duration) (result, error) {
	if len(latencies) == 0 {
		return result{}, errors.New("nothing was done")
	}
	slices.Sort(latencies)
	at := func(q float64) time.Duration { return latencies[min(int(q*float64(len(latencies))), len(latencies)-1)] }
	return result{rate: float64(len(latencies)) / over.Seconds(), p50: at(0.5), p99: at(0.99)}, nil
}
