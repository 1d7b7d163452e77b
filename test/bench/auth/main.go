// Command auth measures what signing in costs those who are signed in: how much a remembered token saves, how long authenticated calls wait
// while somebody tries passwords, and how many lists a pod serves during pgbench reading the same rows. The server is bin/caly dataplane, a
// process of its own, with a kube-apiserver that its tenant and keys come from.
//
//	auth -caly PATH -pgbench PATH        measures; the last lines are "ratio NAME VALUE"
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
	"strings"
	"syscall"
	"time"
)

// options of the measurement.
type options struct {
	caly, pgbench          string
	dsnDataplane, dsnOwner string // from the environment: no secret in argv
	seconds, rounds        int
	rate, flood            int
	only                   string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-auth:", err)
		os.Exit(1)
	}
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("auth", flag.ContinueOnError)
	fs.StringVar(&o.caly, "caly", "bin/caly", "the caly binary")
	fs.StringVar(&o.pgbench, "pgbench", "pgbench", "the pgbench binary")
	fs.IntVar(&o.seconds, "seconds", 10, "length of each run")
	fs.IntVar(&o.rounds, "rounds", 5, "counted rounds, after one that is not")
	fs.IntVar(&o.rate, "rate", 100, "authenticated calls a second during the flood")
	fs.IntVar(&o.flood, "flood", 1000, "wrong logins a second")
	fs.StringVar(&o.only, "only", "check,flood,database,list", "what to measure")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.dsnDataplane, o.dsnOwner = os.Getenv("CALY_BENCH_DSN_DATAPLANE"), os.Getenv("CALY_BENCH_DSN_OWNER")
	if o.dsnDataplane == "" || o.dsnOwner == "" {
		return o, errors.New(
			"CALY_BENCH_DSN_DATAPLANE and CALY_BENCH_DSN_OWNER must be set: run it with make bench-auth",
		)
	}
	if o.seconds < 2 || o.rounds < 1 || o.rate < apiClients || o.flood < 1 {
		return o, fmt.Errorf("-seconds must be 2 or more, -rounds and -flood 1, -rate %d", apiClients)
	}
	return o, nil
}

func (o options) duration() time.Duration { return time.Duration(o.seconds) * time.Second }

func (o options) measures(what string) bool { return slices.Contains(strings.Split(o.only, ","), what) }

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	fmt.Printf(
		"accounts: %d s a run, %d rounds; %s, %d CPUs, load %s\n",
		o.seconds,
		o.rounds,
		runtime.GOARCH,
		runtime.NumCPU(),
		load(),
	)
	var ratios []ratio
	if o.measures("check") {
		r, err := measureChecks(ctx, o.rounds)
		if err != nil {
			return err
		}
		ratios = append(ratios, r)
	}
	rig, err := newRig(ctx, o)
	if err != nil {
		return err
	}
	defer rig.close()
	for _, part := range []struct {
		name    string
		measure func(context.Context) ([]ratio, error)
	}{{"flood", rig.measureFlood}, {"database", rig.measureDatabase}, {"list", rig.measureList}} {
		if !o.measures(part.name) {
			continue
		}
		more, err := part.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		ratios = append(ratios, more...)
	}
	fmt.Printf("load of the machine at the end: %s\n", load())
	for _, r := range ratios {
		fmt.Printf("ratio %s %.*f\n", r.name, r.digits, r.value)
	}
	return nil
}

// ratio is a line of the end.
type ratio struct {
	name   string
	value  float64
	digits int
}

// over is the median over rounds of the ratio within each round, so that a drift of the machine's speed cancels out.
func over[T time.Duration | float64](ours, theirs []T) float64 {
	list := make([]float64, len(ours))
	for i := range ours {
		list[i] = float64(ours[i]) / float64(theirs[i])
	}
	return median(list)
}

func median[T time.Duration | float64](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// percentile of latencies, which it sorts.
func percentile(latencies []time.Duration, q float64) time.Duration {
	if len(latencies) == 0 {
		return 0
	}
	slices.Sort(latencies)
	return latencies[min(int(q*float64(len(latencies))), len(latencies)-1)]
}

// load is the machine's own view of what else it does.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
