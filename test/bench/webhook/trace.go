package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Environment of the server.
const (
	envTraceEndpoint = "CALY_BENCH_TRACE_ENDPOINT"
	envTraceRatio    = "CALY_BENCH_TRACE_RATIO"
)

// traceClients is how many clients send webhooks while tracing is measured.
const traceClients = 16

// warmUp is how long a new server is used before it is measured.
const warmUp = time.Second

// variant is a server that is compared with the others.
type variant struct {
	name string
	// program is the server's file; empty: this one.
	program string
	env     []string
	// cpu is the CPU time of each counted round for one webhook, in microseconds.
	cpu []float64
}

// collector reads and counts what the servers export.
type collector struct {
	*httptest.Server
	bytes atomic.Int64
}

func newCollector() *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		c.bytes.Add(n)
	}))
	return c
}

// compareTracing measures the server's CPU time for one webhook without traces and with them, in alternating runs. The
// ratios are those within each round, so that a drift of the machine's speed cancels out.
func compareTracing(ctx context.Context, o options) error {
	collector := newCollector()
	defer collector.Close()
	to := func(ratio string) []string {
		return []string{envTraceEndpoint + "=" + collector.URL, envTraceRatio + "=" + ratio}
	}
	variants := []*variant{
		{name: "off"},
		{name: "0_percent", env: to("0")},
		{name: "1_percent", env: to("0.01")},
		{name: "100_percent", env: to("1")},
	}
	if o.against != "" {
		variants = append(variants, &variant{name: "against", program: o.against})
	}
	fmt.Printf("CPU time of the server for one webhook, %d clients, %d s a run, %d rounds; %s, %d CPUs\n",
		traceClients, o.seconds, o.rounds, runtime.GOARCH, runtime.NumCPU())
	for round := range o.rounds {
		for i := range variants { // another order in each round
			v := variants[(i+round)%len(variants)]
			if err := v.measure(ctx, o, round); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	fmt.Printf("the collector got %d bytes\n", collector.bytes.Load())
	for _, v := range variants[1:] {
		ratios := make([]float64, len(v.cpu))
		for i := range v.cpu {
			ratios[i] = v.cpu[i] / variants[0].cpu[i]
		}
		slices.Sort(ratios)
		fmt.Printf("ratio webhook.cpu_trace_%s_vs_off %.3f (%.3f to %.3f)\n",
			v.name, ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
	}
	return nil
}

// measure runs a new server.
func (v *variant) measure(ctx context.Context, o options, round int) error {
	r := &rig{o: o, addr: address, program: v.program, env: v.env}
	defer r.close()
	if err := r.start(ctx); err != nil {
		return err
	}
	if _, err := load(ctx, r.addr, traceClients, warmUp, o.recordings); err != nil {
		return err
	}
	before, err := cpuTime(r.server.Process.Pid)
	if err != nil {
		return err
	}
	result, err := load(ctx, r.addr, traceClients, r.duration(), o.recordings)
	if err != nil {
		return err
	}
	after, err := cpuTime(r.server.Process.Pid)
	if err != nil {
		return err
	}
	each := (after - before).Seconds() / (result.rate * r.duration().Seconds()) * 1e6
	v.cpu = append(v.cpu, each)
	fmt.Printf("round %d, %-12s %6.2f us   %s\n", round+1, v.name, each, result)
	return nil
}

// cpuTime returns the CPU time that a process has used, in user mode and in the kernel.
func cpuTime(pid int) (time.Duration, error) {
	const ticks = 100 // of a second, on every Linux that Go supports
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // after the name
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, errors.New("/proc has another format")
	}
	user, userErr := strconv.ParseInt(fields[11], 10, 64)
	kernel, kernelErr := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+kernel) * time.Second / ticks, errors.Join(userErr, kernelErr)
}
