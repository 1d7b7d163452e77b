// Command upload compares caly-upload with "rclone copyurl --urls" on the same HTTP source and the same S3 server, in
// alternating runs, and prints the ratios caly/rclone of CPU seconds a recording, wall time and peak memory.
//
// Both are measured as whole processes by the operating system's own accounting: CPU by getrusage of the finished child, memory
// by its high-water mark.
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
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-upload:", err)
		os.Exit(1)
	}
}

// options of one comparison.
type options struct {
	caly, rclone                     string
	dsn, s3Endpoint, s3Key, s3Secret string // from the environment: no secret in argv
	files, size                      int
	parallel, rounds                 int
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("upload", flag.ContinueOnError)
	fs.StringVar(&o.caly, "caly", "", "the caly-upload binary")
	fs.StringVar(&o.rclone, "rclone", "", "the rclone binary")
	fs.IntVar(&o.files, "files", 300, "recordings a run")
	fs.IntVar(&o.size, "size", 2_000_000, "bytes a recording")
	fs.IntVar(&o.parallel, "parallel", 16, "transfers at once, on either side")
	fs.IntVar(&o.rounds, "rounds", 5, "counted rounds, after one that is not")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.dsn, o.s3Endpoint = os.Getenv("CALY_BENCH_DSN"), os.Getenv("CALY_S3_ENDPOINT")
	o.s3Key, o.s3Secret = os.Getenv("CALY_S3_ACCESS_KEY"), os.Getenv("CALY_S3_SECRET_KEY")
	if o.caly == "" || o.rclone == "" || o.dsn == "" || o.s3Endpoint == "" {
		return o, errors.New(
			"-caly, -rclone, CALY_BENCH_DSN and CALY_S3_ENDPOINT must be set: run it with make bench-upload",
		)
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	rig, err := newRig(ctx, o)
	if err != nil {
		return err
	}
	defer rig.close()
	fmt.Printf(
		"%d recordings of %d bytes, %d at once, %d rounds; %s, %d CPUs\n",
		o.files,
		o.size,
		o.parallel,
		o.rounds,
		runtime.GOARCH,
		runtime.NumCPU(),
	)
	var ours, theirs []usage
	for round := range o.rounds + 1 {
		a, err := rig.runCaly(ctx, round)
		if err != nil {
			return fmt.Errorf("caly, round %d: %w", round, err)
		}
		b, err := rig.runRclone(ctx, round)
		if err != nil {
			return fmt.Errorf("rclone, round %d: %w", round, err)
		}
		fmt.Printf("round %d  caly %s   rclone %s\n", round, a, b)
		if round > 0 { // the first one warms caches on both sides
			ours, theirs = append(ours, a), append(theirs, b)
		}
	}
	report("upload.cpu_vs_rclone", ours, theirs, func(u usage) float64 { return u.cpu.Seconds() })
	report("upload.wall_vs_rclone", ours, theirs, func(u usage) float64 { return u.wall.Seconds() })
	report("upload.peak_memory_vs_rclone", ours, theirs, func(u usage) float64 { return float64(u.peakKiB) })
	return nil
}

// report prints the median over rounds of the ratio within each round, so that a drift of the machine's speed cancels out.
func report(name string, ours, theirs []usage, figure func(usage) float64) {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = figure(ours[i]) / figure(theirs[i])
	}
	slices.Sort(ratios)
	fmt.Printf("ratio %s %.3f\n", name, ratios[len(ratios)/2])
}
