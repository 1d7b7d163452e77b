// Command pipeline measures recordings through the whole of Caly on a cluster: queued all at once, until each is
// verified in the bucket and shown by its CallRecording. For comparison it measures one Job for each recording.
//
// The baseline's pods do nothing at all, so that it is the cost of the Jobs alone, which flatters it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-pipeline:", err)
		os.Exit(1)
	}
}

// options of a measurement.
type options struct {
	kubeconfig, dsn, s3Endpoint, s3Key, s3Secret string // from the environment: no secret in argv
	image, hostIP                                string
	recordings, size, jobs                       int
}

func parse(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("pipeline", flag.ContinueOnError)
	fs.StringVar(&o.image, "image", "", "Caly's image, as the cluster knows it")
	fs.StringVar(&o.hostIP, "host-ip", "", "address at which pods reach this machine")
	fs.IntVar(&o.recordings, "recordings", 2000, "recordings to queue at once")
	fs.IntVar(&o.size, "size", 64<<10, "bytes of a recording")
	fs.IntVar(&o.jobs, "jobs", 100, "Jobs of the baseline")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.kubeconfig, o.dsn = os.Getenv("KUBECONFIG"), os.Getenv("CALY_BENCH_DSN")
	o.s3Endpoint, o.s3Key, o.s3Secret = os.Getenv("CALY_S3_ENDPOINT"), os.Getenv(
		"CALY_S3_ACCESS_KEY",
	), os.Getenv("CALY_S3_SECRET_KEY")
	if o.kubeconfig == "" || o.dsn == "" || o.s3Endpoint == "" || o.image == "" || o.hostIP == "" {
		return o, errors.New(
			"-image, -host-ip, KUBECONFIG, CALY_BENCH_DSN and CALY_S3_ENDPOINT must be set: run it with make bench-pipeline",
		)
	}
	return o, nil
}

func run(ctx context.Context, args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	r, err := newRig(ctx, o)
	if err != nil {
		return err
	}
	defer r.close()
	fmt.Printf(
		"%d recordings of %d bytes; %d Jobs for the baseline; %s, %d CPUs for everything\n",
		o.recordings,
		o.size,
		o.jobs,
		runtime.GOARCH,
		runtime.NumCPU(),
	)
	base, err := r.jobs(ctx)
	if err != nil {
		return fmt.Errorf("baseline: %w", err)
	}
	fmt.Printf("one Job each: %s\n", base)
	ours, err := r.pipeline(ctx)
	if err != nil {
		return fmt.Errorf("pipeline: %w", err)
	}
	fmt.Printf("pipeline:     %s\n", ours)
	fmt.Printf("ratio pipeline.rate_vs_job_per_recording %.1f\n", ours.rate()/base.rate())
	fmt.Printf("ratio pipeline.api_writes_vs_job_per_recording %.2f\n", ours.writesEach()/base.writesEach())
	return nil
}

// figures of one side.
type figures struct {
	n            int
	took         time.Duration
	writes, pods float64
	views        int           // CallRecordings
	shown        time.Duration // until the last of them said so
}

func (f figures) rate() float64       { return float64(f.n) / f.took.Seconds() }
func (f figures) writesEach() float64 { return f.writes / float64(f.n) }

func (f figures) String() string {
	s := fmt.Sprintf(
		"%d in %.1f s, %.1f/s, %.2f API writes each, %.0f pods created",
		f.n,
		f.took.Seconds(),
		f.rate(),
		f.writesEach(),
		f.pods,
	)
	if f.views > 0 {
		s += fmt.Sprintf(", %d CallRecordings, all settled after %.1f s", f.views, f.shown.Seconds())
	}
	return s
}
