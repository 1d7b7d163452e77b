// Command relay compares the audio bridge with a plain TCP proxy, a bare lxzan/gws relay and a gorilla/websocket relay with default
// buffers: the same calls, frames and rates, in alternating runs. Each relay is a process of its own; scanning, limits and metrics are on
// in ours.
//
//	relay                        measures; the last lines are "ratio NAME VALUE"
//	relay serve KIND AGENT       is a relay, started by the former
package main

import (
	"context"
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
	run    time.Duration
	rounds int
	calls  int
	idle   int
	rate   int
	splice bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	do := measure
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		do = func(_ context.Context, args []string) error { return serve(args[1], args[2]) }
	}
	if err := do(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench-relay:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, args []string) error {
	var o options
	fs := flag.NewFlagSet("relay", flag.ContinueOnError)
	fs.DurationVar(&o.run, "run", 1500*time.Millisecond, "length of each run")
	fs.IntVar(&o.rounds, "rounds", 7, "counted rounds, after one that is not")
	fs.IntVar(&o.calls, "calls", 200, "calls at once")
	fs.IntVar(&o.idle, "idle", 4000, "calls at once while memory is measured")
	fs.IntVar(&o.rate, "rate", 20_000, "frames in a second, both directions together")
	fs.BoolVar(&o.splice, "splice", false, "let the TCP proxy splice instead of copying")
	if err := fs.Parse(args); err != nil {
		return err
	}
	fmt.Printf(
		"relays of %d calls at %d frames/s, %s a run, %d rounds; %s, %d CPUs\n",
		o.calls,
		o.rate,
		o.run,
		o.rounds,
		runtime.GOARCH,
		runtime.NumCPU(),
	)
	vsTCP, vsGWS, perFrame, err := compareCPU(ctx, o)
	if err != nil {
		return err
	}
	memory, err := compareMemory(ctx, o)
	if err != nil {
		return err
	}
	p99, err := compareLatency(ctx, o, perFrame)
	if err != nil {
		return err
	}
	fmt.Printf("ratio relay.cpu_vs_tcp_proxy %.3f\n", vsTCP)
	fmt.Printf("ratio relay.cpu_vs_gws %.3f\n", vsGWS)
	fmt.Printf("ratio relay.memory_vs_gorilla_default %.3f\n", memory)
	fmt.Printf("ratio relay.p99_added_vs_tcp_proxy %.3f\n", p99)
	return nil
}

// compareCPU measures CPU time per frame with both sizes of frames. The ratios are the worse size's; each is the median over rounds of
// the ratio within each round, so that a drift of the machine's speed cancels out.
func compareCPU(ctx context.Context, o options) (vsTCP, vsGWS float64, perFrame time.Duration, err error) {
	kinds := []string{o.tcp(), "gws", "caly"}
	rigs, closeAll, err := open(ctx, kinds, o.calls)
	defer closeAll()
	if err != nil {
		return 0, 0, 0, err
	}
	for _, size := range []int{1600, 320} { // 100 and 20 ms at 8 kHz: frames of 2.3 and 0.6 KB
		var tcp, gws []float64
		for round := range o.rounds + 1 {
			got := make([]result, len(kinds))
			for i := range kinds {
				at := (i + round) % len(kinds) // nobody is always first
				if got[at], err = rigs[at].load(ctx, size, o.rate, o.run); err != nil {
					return 0, 0, 0, fmt.Errorf("%s: %w", kinds[at], err)
				}
			}
			fmt.Printf(
				"round %d, %4d bytes of audio   tcp %s   gws %s   caly %s\n", round, size, got[0], got[1], got[2],
			)
			if round > 0 {
				tcp, gws = append(tcp, got[2].cpu()/got[0].cpu()), append(gws, got[2].cpu()/got[1].cpu())
			}
			perFrame = max(perFrame, got[2].whole())
		}
		fmt.Printf("%d bytes of audio: %.3f of the TCP proxy, %.3f of gws\n", size, median(tcp), median(gws))
		vsTCP, vsGWS = max(vsTCP, median(tcp)), max(vsGWS, median(gws))
	}
	return vsTCP, vsGWS, perFrame, nil
}

// compareMemory measures what an idle call holds, after each has relayed.
func compareMemory(ctx context.Context, o options) (float64, error) {
	var kib []float64
	for _, kind := range []string{"caly", "gorilla", "gws"} {
		each, err := idle(ctx, kind, o.idle)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", kind, err)
		}
		fmt.Printf("memory of a call among %d: %s %.1f KiB\n", o.idle, kind, each)
		kib = append(kib, each)
	}
	return kib[0] / kib[1], nil
}

// compareLatency measures the time from write to read at a rate that keeps half of the machine busy, relay and peers together.
func compareLatency(ctx context.Context, o options, perFrame time.Duration) (float64, error) {
	rate := int(float64(runtime.NumCPU()) * float64(time.Second) / 2 / float64(perFrame))
	rigs, closeAll, err := open(ctx, []string{o.tcp(), "caly"}, o.calls)
	defer closeAll()
	if err != nil {
		return 0, err
	}
	var ratios []float64
	for round := range o.rounds + 1 {
		var got [2]result
		for i := range got {
			at := (i + round) % 2
			if got[at], err = rigs[at].load(ctx, 1600, rate, o.run); err != nil {
				return 0, err
			}
		}
		fmt.Printf(
			"round %d, %d frames/s   tcp p50 %s p99 %s   caly p50 %s p99 %s\n",
			round,
			rate,
			got[0].p50,
			got[0].p99,
			got[1].p50,
			got[1].p99,
		)
		if round > 0 {
			ratios = append(ratios, float64(got[1].p99)/float64(got[0].p99))
		}
	}
	return median(ratios), nil
}

func (o options) tcp() string {
	if o.splice {
		return "splice"
	}
	return "tcp"
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}

// open starts relays, each with a number of calls.
func open(ctx context.Context, kinds []string, calls int) (rigs []*rig, closeAll func(), err error) {
	closeAll = func() {
		for _, r := range rigs {
			r.close()
		}
	}
	for _, kind := range kinds {
		r, err := newRig(ctx, kind)
		if err != nil {
			return nil, closeAll, err
		}
		rigs = append(rigs, r)
		if err := r.dial(calls); err != nil {
			return nil, closeAll, err
		}
	}
	return rigs, closeAll, nil
}

// idle returns the memory of a relay for each of a number of calls, in KiB.
func idle(ctx context.Context, kind string, calls int) (float64, error) {
	r, err := newRig(ctx, kind)
	if err != nil {
		return 0, err
	}
	defer r.close()
	if err := r.dial(50); err != nil { // what the first calls bring about once
		return 0, err
	}
	if _, err := r.load(ctx, 320, 1000, time.Second); err != nil {
		return 0, err
	}
	before, err := r.memory()
	if err != nil {
		return 0, err
	}
	if err := r.dial(calls); err != nil {
		return 0, err
	}
	if _, err := r.load(ctx, 320, 10_000, 2*time.Second); err != nil {
		return 0, err
	}
	after, err := r.memory()
	return (after - before) / float64(calls), err
}
