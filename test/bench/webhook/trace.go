package main

import (
	"context"
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

// warmUp is how long each server is used before it is measured.
const warmUp = 2 * time.Second

// variant is a server that is compared with the others.
type variant struct {
	name string
	// program is the server's file; empty: this one.
	program string
	// port is the public one; the next is the internal one.
	port int
	env  []string
	rig  *rig
	// cpu is the CPU time of each round for one webhook, in microseconds.
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

// compareTracing measures the server's CPU time for one webhook without traces and with them, in short alternating runs.
// The ratios are those within each round, so that a drift of the machine's speed cancels out.
func compareTracing(ctx context.Context, o options) error {
	collector := newCollector()
	defer collector.Close()
	to := func(ratio string) []string {
		return []string{envTraceEndpoint + "=" + collector.URL, envTraceRatio + "=" + ratio}
	}
	variants := []*variant{
		{name: "off", port: 17194},
		{name: "1_percent", port: 17196, env: to("0.01")},
		{name: "100_percent", port: 17198, env: to("1")},
	}
	if o.against != "" {
		variants = append(variants, &variant{name: "against", program: o.against, port: defaultPort})
	}
	fmt.Printf("CPU time of the server for one webhook, %d clients, %d s a run, %d rounds; %s, %d CPUs\n",
		traceClients, o.seconds, o.rounds, runtime.GOARCH, runtime.NumCPU())
	for _, v := range variants {
		defer v.close()
		if err := v.start(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", v.name, err)
		}
	}
	for round := range o.rounds {
		for i := range variants { // another order in each round
			v := variants[(i+round)%len(variants)]
			if err := v.measure(ctx); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
		}
	}
	fmt.Printf("the collector got %d bytes\n", collector.bytes.Load())
	for _, v := range variants {
		v.report(variants[0])
	}
	return nil
}

// start starts the server and warms it up.
func (v *variant) start(ctx context.Context, o options) error {
	v.rig = &rig{o: o, addr: fmt.Sprintf("127.0.0.1:%d", v.port), program: v.program}
	v.rig.env = append(v.env, envPort+"="+strconv.Itoa(v.port))
	if err := v.rig.start(ctx); err != nil {
		return err
	}
	_, err := load(ctx, v.rig.addr, traceClients, warmUp, o.recordings)
	return err
}

func (v *variant) close() {
	if v.rig != nil {
		v.rig.close()
	}
}

// measure sends webhooks to the server for one run.
func (v *variant) measure(ctx context.Context) error {
	before, err := cpuTime(v.rig.server.Process.Pid)
	if err != nil {
		return err
	}
	begun := time.Now()
	result, err := load(ctx, v.rig.addr, traceClients, v.rig.duration(), v.rig.o.recordings)
	if err != nil {
		return err
	}
	webhooks := result.rate * time.Since(begun).Seconds()
	after, err := cpuTime(v.rig.server.Process.Pid)
	if err != nil {
		return err
	}
	v.cpu = append(v.cpu, (after-before).Seconds()/webhooks*1e6)
	return nil
}

// report prints the medians of the CPU time and of its ratio to another variant's, with the quartiles of the ratio.
func (v *variant) report(to *variant) {
	ratios := make([]float64, len(v.cpu))
	for i := range v.cpu {
		ratios[i] = v.cpu[i] / to.cpu[i]
	}
	slices.Sort(ratios)
	cpu := slices.Sorted(slices.Values(v.cpu))
	fmt.Printf("ratio webhook.cpu_trace_%s_vs_off %.3f (%.3f to %.3f), %.1f us\n",
		v.name, ratios[len(ratios)/2], ratios[len(ratios)/4], ratios[len(ratios)*3/4], cpu[len(cpu)/2])
}

// cpuTime returns the CPU time that the threads of a process have used. None of them ends while it runs.
func cpuTime(pid int) (total time.Duration, err error) {
	threads, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task", "*", "schedstat"))
	if err != nil {
		return 0, err
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		nanoseconds, _, _ := strings.Cut(string(stat), " ")
		n, err := strconv.ParseInt(nanoseconds, 10, 64)
		if err != nil {
			return 0, err
		}
		total += time.Duration(n)
	}
	return total, nil
}
