package streams

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/calytest"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/testkit/pgtest"
)

// churnCallers place one call after the other.
const churnCallers = 16

// TestStreamChurn verifies that goroutines, descriptors and memory return to their level after calls that end in every
// way. Calls begin, talk and end at random, and the agent changes meanwhile. Each session has its end. For half an
// hour: make test-load.
func TestStreamChurn(t *testing.T) {
	t.Parallel() // a machine has time for others meanwhile
	lasts := sized(t, "CALY_CHURN_FOR", 5*time.Second, time.ParseDuration)
	agents := churnAgents(t)
	pod := newStreamPod(t, pgtest.New(t), "churned", agents[0], 100).run()
	c := &churn{t: t, pod: pod, outcomes: map[string]int{}}
	c.call(2 * time.Second) // what the first calls bring about once
	base := c.settled(footprint{1 << 20, 1 << 20, 1 << 40}, patience)
	calling := make(chan struct{})
	go func() { c.call(lasts); close(calling) }()
	for i := 1; goesOn(calling); i++ {
		pod.WithAudio(agents[i%len(agents)], 100)
		select {
		case <-calling:
		case <-time.After(time.Second):
		}
	}
	const slack = 8
	allowed := footprint{base.goroutines + slack, base.descriptors + slack, 1 << 40}
	within := 2 * time.Minute
	if lasts >= time.Minute { // the heap of a young process has not been collected twice
		allowed.heap = 2*base.heap + 8<<20
		within = 6 * time.Minute
	}
	end := c.settled(allowed, within)
	t.Logf("%s of churn on %s: %v; before %v, after %v", lasts, machine(), c.outcomes, base, end)
	kept := pod.sessions(t, "true")
	endless := pod.sessions(t, "ended_at IS NULL")
	admitted := pod.Metric(`caly_stream_sessions_admissions_total{outcome="admitted"}`)
	if endless != 0 || float64(kept) != admitted || kept < churnCallers {
		t.Errorf("%d sessions are kept of %g, %d without an end", kept, admitted, endless)
	}
	for _, outcome := range []string{"in order", "early", "refused"} {
		if c.outcomes[outcome] == 0 {
			t.Errorf("no call ended %s: this proves little", outcome)
		}
	}
}

func goesOn(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return true
	}
}

// churnAgents are those that the tenant has one after the other.
func churnAgents(t *testing.T) (urls []string) {
	t.Helper()
	for _, o := range []agentsim.Options{{}, {DropAfter: 20}, {}, {
		CloseAfter: 10,
		CloseCode:  1011,
	}, {Refuse: 503}, {
		BurstEvery: 5,
		BurstMarks: 3,
	},
		{HandshakeDelay: 200 * time.Millisecond}, {Silent: true}} {
		server, err := agentsim.NewServer(o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(server.Close)
		urls = append(urls, server.URL())
	}
	return urls
}

type churn struct {
	t   *testing.T
	pod *streamPod

	mu       sync.Mutex
	outcomes map[string]int
}

// call has all callers place calls for a time, and waits for the last ones.
func (c *churn) call(lasts time.Duration) {
	c.t.Helper()
	var group sync.WaitGroup
	audio := exotelsim.Noise(16_000)
	for i := range churnCallers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1)) //nolint:gosec // it repeats
			for begin := time.Now(); time.Since(begin) < lasts && c.t.Context().Err() == nil; {
				outcome := c.one(random, audio)
				c.mu.Lock()
				c.outcomes[outcome]++
				c.mu.Unlock()
			}
		})
	}
	group.Wait()
}

// one call, of up to two seconds. Some vanish, some are given up, some know no secret.
func (c *churn) one(random *rand.Rand, audio []byte) string {
	some := func(most int) time.Duration { return time.Duration(1+random.IntN(most)) * time.Millisecond }
	stream := exotelsim.Stream{
		URL:      "ws://" + c.pod.Public + calytest.AudioPath,
		Audio:    audio,
		Duration: some(2000),
		Linger:   some(200),
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	switch random.IntN(10) {
	case 0:
		stream.Quirks.DropAfter = 1 + random.IntN(50)
	case 1:
		time.AfterFunc(some(300), cancel)
	case 2:
		stream.URL += "x"
	case 3:
		stream.Quirks.OddSizes = true
		stream.Quirks.Binary = true
	}
	report, err := stream.Run(ctx)
	var refused *exotelsim.HandshakeError
	switch {
	case errors.As(err, &refused):
		calytest.Pause(ctx, some(100))
		return "refused"
	case err != nil:
		return "given up"
	case report.HungUp:
		return "in order"
	}
	return "early"
}

// footprint of a process.
type footprint struct{ goroutines, descriptors, heap int }

func (f footprint) String() string {
	return fmt.Sprintf(
		"%d goroutines, %d descriptors, %.1f MiB of heap in use", f.goroutines, f.descriptors, float64(f.heap)/(1<<20),
	)
}

// settled is the footprint once there are no streams and it is no larger than it may be. It lists what is, where that does not come about.
func (c *churn) settled(most footprint, within time.Duration) (f footprint) {
	c.t.Helper()
	eventually.Within(within).Succeeds(c.t, func(context.Context) error {
		heap := int(c.pod.Metric("go_memstats_heap_inuse_bytes"))
		f = footprint{int(c.pod.Metric("go_goroutines")), c.pod.Descriptors(), heap}
		live := c.pod.Metric("caly_stream_sessions_live")
		if live == 0 && f.goroutines <= most.goroutines && f.descriptors <= most.descriptors && f.heap <= most.heap {
			return nil
		}
		return fmt.Errorf("after %v: %v and %g streams, want at most %v", maps.Clone(c.outcomes), f, live, most)
	})
	return f
}
