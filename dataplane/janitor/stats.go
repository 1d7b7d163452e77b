package janitor

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Stats are what a janitor has done since its pod started.
type Stats struct {
	// IsRunning reports whether the janitor is at work. It is false while the pod starts and after the janitor has
	// stopped.
	IsRunning bool `json:"isRunning"`
	// SessionsCleanedUp are rows that were ended because nobody had the stream any more.
	SessionsCleanedUp int64 `json:"sessionsCleanedUp"`
	// OrphanedConnectionsClosed are streams of this pod that were cut off because their rows had ended.
	OrphanedConnectionsClosed int64 `json:"orphanedConnectionsClosed"`
	MemoryLeaksDetected       int64 `json:"memoryLeaksDetected"`
	// LastCleanupTime is when a full cleanup came to its end; nil before the first.
	LastCleanupTime *time.Time  `json:"lastCleanupTime"`
	MemoryUsage     MemoryUsage `json:"memoryUsage"`
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

// Stats tells what the janitor has done.
func (j *Janitor) Stats() Stats {
	usage := j.memory.usage(j.o.Registry.Live())
	j.mu.Lock()
	defer j.mu.Unlock()
	stats := j.stats
	stats.MemoryUsage = usage
	return stats
}

// ServeHTTP answers GET /api/monitoring/cleanup-stats.
func (j *Janitor) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	body, _ := json.MarshalIndent(j.Stats(), "", "  ") // numbers and a time: it never fails
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the peer may have gone
}

func (j *Janitor) running(yes bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stats.IsRunning = yes
}

func (j *Janitor) count(sessions, connections int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stats.SessionsCleanedUp += int64(sessions)
	j.stats.OrphanedConnectionsClosed += int64(connections)
	j.m.sessions.Add(float64(sessions))
	j.m.connections.Add(float64(connections))
}

func (j *Janitor) succeeded(at time.Time) {
	at = at.UTC()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stats.LastCleanupTime = &at
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
