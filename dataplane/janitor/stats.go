package janitor

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/store"
)

// Stats are what the cleanups of all pods have done since the database has the totals, and what this pod is now.
type Stats struct {
	// IsRunning reports whether the janitor of this pod is at work. It is false while the pod starts and after the
	// janitor has stopped.
	IsRunning bool `json:"isRunning"`
	// Cleanups are full ones that came to their end.
	Cleanups int64 `json:"cleanups"`
	// SessionsCleanedUp is the sum of the next two.
	SessionsCleanedUp int64 `json:"sessionsCleanedUp"`
	// StreamSessionsCleanedUp are rows that were ended because nobody had the stream any more.
	StreamSessionsCleanedUp int64 `json:"streamSessionsCleanedUp"`
	// LoginSessionsCleanedUp are login sessions that had expired and were removed.
	LoginSessionsCleanedUp int64 `json:"loginSessionsCleanedUp"`
	// OrphanedConnectionsClosed are streams that were cut off because their rows had ended.
	OrphanedConnectionsClosed int64 `json:"orphanedConnectionsClosed"`
	MemoryLeaksDetected       int64 `json:"memoryLeaksDetected"`
	// LastCleanupTime is when a full cleanup came to its end; nil before the first.
	LastCleanupTime *time.Time `json:"lastCleanupTime"`
	// TotalsReadTime is when PostgreSQL answered last what the other pods have done; nil: never, and the numbers are
	// those of this pod.
	TotalsReadTime *time.Time `json:"totalsReadTime"`
	// Pod is what this pod has done since it started.
	Pod PodStats `json:"pod"`
	// MemoryUsage is this pod's.
	MemoryUsage MemoryUsage `json:"memoryUsage"`
}

// PodStats are what the janitor of one pod has done since the pod started.
type PodStats struct {
	Cleanups                  int64      `json:"cleanups"`
	SessionsCleanedUp         int64      `json:"sessionsCleanedUp"`
	OrphanedConnectionsClosed int64      `json:"orphanedConnectionsClosed"`
	MemoryLeaksDetected       int64      `json:"memoryLeaksDetected"`
	LastCleanupTime           *time.Time `json:"lastCleanupTime"`
}

// MemoryUsage is this pod's, now.
type MemoryUsage struct {
	// HeapUsed, HeapTotal and RSS are bytes: of objects, of the heap with what is free in it, and of the whole process.
	HeapUsed  uint64 `json:"heapUsed"`
	HeapTotal uint64 `json:"heapTotal"`
	RSS       uint64 `json:"rss"`
	// HeapBytes that the last garbage collection found in use.
	HeapBytes   uint64 `json:"heapBytes"`
	Goroutines  int    `json:"goroutines"`
	LiveStreams int    `json:"liveStreams"`
	// BaselineHeapBytes and BaselineGoroutines are what there was without streams soon after the start; 0 until that is known.
	BaselineHeapBytes  int64 `json:"baselineHeapBytes"`
	BaselineGoroutines int64 `json:"baselineGoroutines"`
	// Suspected reports whether more is in use at present than the streams explain.
	Suspected bool `json:"suspected"`
	// HeapProfiles that are kept, by their numbers.
	HeapProfiles []int `json:"heapProfiles"`
}

// statsWithin bounds a question about the totals.
const statsWithin = 2 * time.Second

// Stats returns what the janitors of all pods have done. While PostgreSQL does not answer, they are the last known ones
// and what this pod has done since.
func (j *Janitor) Stats(ctx context.Context) Stats {
	j.read(ctx)
	usage := j.memory.usage(j.o.Registry.Live())
	j.mu.Lock()
	defer j.mu.Unlock()
	own := j.own
	all := plus(j.totals.CleanupCounts, minus(own, j.stored))
	return Stats{
		IsRunning:                 j.alive,
		Cleanups:                  all.Cleanups,
		SessionsCleanedUp:         all.StreamSessions + j.totals.LoginSessions,
		StreamSessionsCleanedUp:   all.StreamSessions,
		LoginSessionsCleanedUp:    j.totals.LoginSessions,
		OrphanedConnectionsClosed: all.Connections,
		MemoryLeaksDetected:       all.MemoryLeaks,
		LastCleanupTime:           orNil(all.LastAt),
		TotalsReadTime:            orNil(j.readAt),
		Pod: PodStats{
			Cleanups:                  own.Cleanups,
			SessionsCleanedUp:         own.StreamSessions,
			OrphanedConnectionsClosed: own.Connections,
			MemoryLeaksDetected:       own.MemoryLeaks,
			LastCleanupTime:           orNil(own.LastAt),
		},
		MemoryUsage: usage,
	}
}

// read reads the totals, unless another request does: clients that ask at once cost one connection.
func (j *Janitor) read(ctx context.Context) {
	if !j.asking.TryLock() {
		return
	}
	defer j.asking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, statsWithin)
	defer cancel()
	if totals, err := j.o.Store.CleanupTotals(ctx); err == nil {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.totals = totals
		j.readAt = time.Now().UTC()
	}
}

// flush adds what this pod has done to the totals. What cannot be added now is added with the next cleanup.
func (j *Janitor) flush(ctx context.Context) {
	j.asking.Lock()
	defer j.asking.Unlock()
	j.mu.Lock()
	own := j.own
	counts := minus(own, j.stored)
	j.mu.Unlock()
	if counts == (store.CleanupCounts{LastAt: counts.LastAt}) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statsWithin)
	defer cancel()
	totals, err := j.o.Store.AddCleanups(ctx, counts)
	if err != nil {
		j.o.Log.Warn("cleanup statistics could not be stored; tried again with the next cleanup", "error", err)
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stored = own
	j.totals = totals
	j.readAt = time.Now().UTC()
}

// plus returns the sum, with the later time.
func plus(a, b store.CleanupCounts) store.CleanupCounts {
	sum := store.CleanupCounts{
		Cleanups:       a.Cleanups + b.Cleanups,
		StreamSessions: a.StreamSessions + b.StreamSessions,
		Connections:    a.Connections + b.Connections,
		MemoryLeaks:    a.MemoryLeaks + b.MemoryLeaks,
		LastAt:         a.LastAt,
	}
	if b.LastAt.After(a.LastAt) {
		sum.LastAt = b.LastAt
	}
	return sum
}

// minus returns what was counted since an earlier reading, with the time of now.
func minus(now, earlier store.CleanupCounts) store.CleanupCounts {
	return store.CleanupCounts{
		Cleanups:       now.Cleanups - earlier.Cleanups,
		StreamSessions: now.StreamSessions - earlier.StreamSessions,
		Connections:    now.Connections - earlier.Connections,
		MemoryLeaks:    now.MemoryLeaks - earlier.MemoryLeaks,
		LastAt:         now.LastAt,
	}
}

// orNil returns nil for the zero time.
func orNil(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC()
	return &at
}

// ServeHTTP answers GET /api/monitoring/cleanup-stats.
func (j *Janitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := json.MarshalIndent(j.Stats(r.Context()), "", "  ") // numbers and times: it never fails
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the peer may have gone
}

func (j *Janitor) running(yes bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.alive = yes
}

func (j *Janitor) count(sessions, connections int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.own.StreamSessions += int64(sessions)
	j.own.Connections += int64(connections)
	j.m.sessions.Add(float64(sessions))
	j.m.connections.Add(float64(connections))
}

func (j *Janitor) succeeded(at time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.own.Cleanups++
	j.own.LastAt = at
	j.m.succeeded.Inc()
	j.m.last.Set(float64(at.UnixNano()) / 1e9)
}

type metrics struct {
	sessions, connections prometheus.Counter
	succeeded, failed     prometheus.Counter
	last                  prometheus.Gauge
	leaks                 map[string]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, j *Janitor) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "caly",
			Subsystem: "cleanup",
			Name:      name,
			Help:      help,
		})
	}
	runs := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "cleanup",
		Name:      "runs_total",
		Help:      "Full cleanups, by outcome: success, failure.",
	}, []string{"outcome"})
	leaks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "caly",
		Subsystem: "cleanup",
		Name:      "memory_leaks_total",
		Help: "Times that more was in use than the live streams explain, by what: heap, goroutines. Each is " +
			"counted once until it is over.",
	}, []string{"what"})
	m := &metrics{
		sessions: counter(
			"sessions_total", "Rows of stream sessions that were ended because nobody had the stream any more.",
		),
		connections: counter(
			"orphaned_connections_total", "Streams of this pod that a cleanup cut off because their rows had ended.",
		),
		succeeded: runs.WithLabelValues("success"),
		failed:    runs.WithLabelValues("failure"),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "caly",
			Subsystem: "cleanup",
			Name:      "last_success_timestamp_seconds",
			Help:      "When a full cleanup came to its end last.",
		}),
		leaks: map[string]prometheus.Counter{
			whatHeap:       leaks.WithLabelValues(whatHeap),
			whatGoroutines: leaks.WithLabelValues(whatGoroutines),
		},
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.sessions, m.connections, runs, leaks, m.last,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "caly",
			Subsystem: "cleanup",
			Name:      "heap_bytes",
			Help:      "Heap that the last garbage collection found in use.",
		}, func() float64 { return float64(j.o.Memory.Read().HeapBytes) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "caly",
			Subsystem: "cleanup",
			Name:      "goroutines",
			Help:      "Goroutines of the pod.",
		}, func() float64 { return float64(j.o.Memory.Read().Goroutines) }))
	return m
}
