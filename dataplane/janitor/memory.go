package janitor

import (
	"bytes"
	runtimemetrics "runtime/metrics"
	"runtime/pprof"
	"slices"
	"sync"
	"time"
)

// What may grow.
const (
	whatHeap       = "heap"
	whatGoroutines = "goroutines"
)

// Usage of the process at one moment.
type Usage struct {
	HeapBytes  uint64
	Goroutines int
	// HeapUsed is what objects occupy, garbage included. HeapTotal is that and what the heap has free.
	HeapUsed, HeapTotal uint64
	Resident            uint64
}

// MemoryOptions say what a leak is. Zero values are the defaults.
type MemoryOptions struct {
	// Every is between two samples; 1 min by default.
	Every time.Duration
	// Samples are how many make the baseline, and then how many are looked at: their medians are compared; 10 by default.
	Samples int
	// Skip is how many samples count for nothing at the start, while caches fill; 5 by default, -1 for none.
	Skip int
	// StreamBytes and StreamGoroutines are what a live stream explains; 256 KiB and 12 by default.
	StreamBytes      uint64
	StreamGoroutines int
	// Growth is the factor over the baseline that is suspect, if it also is GrowthBytes or GrowthGoroutines more; 1.5,
	// 64 MiB, 500 by default.
	Growth           float64
	GrowthBytes      uint64
	GrowthGoroutines int
	// Profiles of the heap that are kept, the newest; 3 by default.
	Profiles int
	// Read takes a sample; readUsage by default.
	Read func() Usage
}

func (o *MemoryOptions) setDefaults() {
	orElse(&o.Every, time.Minute)
	orElse(&o.Samples, 10)
	orElse(&o.Skip, 5)
	orElse(&o.StreamBytes, 256<<10)
	orElse(&o.StreamGoroutines, 12)
	orElse(&o.Growth, 1.5)
	orElse(&o.GrowthBytes, 64<<20)
	orElse(&o.GrowthGoroutines, 500)
	orElse(&o.Profiles, 3)
	if o.Read == nil {
		o.Read = readUsage
	}
}

func orElse[T comparable](option *T, value T) {
	if *option == *new(T) {
		*option = value
	}
}

// readUsage asks the runtime. It stops nothing: the heap is what the last collection marked, without the garbage since.
func readUsage() Usage {
	samples := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/sched/goroutines:goroutines"},
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}}
	runtimemetrics.Read(samples)
	return Usage{
		HeapBytes:  samples[0].Value.Uint64(),
		Goroutines: int(samples[1].Value.Uint64()), //nolint:gosec // there are fewer
		HeapUsed:   samples[2].Value.Uint64(),
		HeapTotal:  samples[2].Value.Uint64() + samples[3].Value.Uint64() + samples[4].Value.Uint64(),
		Resident:   residentBytes(),
	}
}

// memory finds growth that the live streams do not explain. It compares what is left when each stream is given its due, so that a pod
// is not suspect because calls came, or went.
type memory struct {
	o    MemoryOptions
	skip int

	mu         sync.Mutex
	heap       trend
	goroutines trend
	profiles   []profile
	profiled   int
}

func newMemory(o MemoryOptions) *memory {
	return &memory{
		o:    o,
		skip: max(o.Skip, 0),
		heap: trend{
			samples: o.Samples,
			growth:  o.Growth,
			least:   int64(o.GrowthBytes), //nolint:gosec // an option
		},
		goroutines: trend{samples: o.Samples, growth: o.Growth, least: int64(o.GrowthGoroutines)},
	}
}

// growth is what a trend was found to be.
type growth struct {
	what     string
	from, to int64 // without what streams explain
}

// sample takes one, and returns what grew, once for each time that it does.
func (m *memory) sample(streams int) []growth {
	usage := m.o.Read()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.skip > 0 {
		m.skip--
		return nil
	}
	var found []growth
	if m.heap.add(
		int64(usage.HeapBytes) - int64(m.o.StreamBytes)*int64(streams), //nolint:gosec // no heap is so large
	) {
		found = append(found, growth{whatHeap, m.heap.baseline, m.heap.median})
	}
	if m.goroutines.add(int64(usage.Goroutines) - int64(m.o.StreamGoroutines*streams)) {
		found = append(found, growth{whatGoroutines, m.goroutines.baseline, m.goroutines.median})
	}
	return found
}

func (m *memory) usage(streams int) MemoryUsage {
	u := m.o.Read()
	m.mu.Lock()
	defer m.mu.Unlock()
	usage := MemoryUsage{
		HeapUsed:           u.HeapUsed,
		HeapTotal:          u.HeapTotal,
		RSS:                u.Resident,
		HeapBytes:          u.HeapBytes,
		Goroutines:         u.Goroutines,
		LiveStreams:        streams,
		BaselineHeapBytes:  m.heap.baseline,
		BaselineGoroutines: m.goroutines.baseline,
		Suspected:          m.heap.grown || m.goroutines.grown,
		HeapProfiles:       []int{},
	}
	for _, p := range m.profiles {
		usage.HeapProfiles = append(usage.HeapProfiles, p.number)
	}
	return usage
}

// trend compares the median of the last samples with that of the first.
type trend struct {
	samples int
	growth  float64
	least   int64

	window           []int64
	known            bool // the baseline
	baseline, median int64
	grown            bool
}

// add returns true when the growth begins. It ends when the median is back under half of what makes it begin.
func (t *trend) add(v int64) (begins bool) {
	t.window = append(t.window, v)
	if len(t.window) < t.samples {
		return false
	}
	sorted := slices.Sorted(slices.Values(t.window))
	t.median = sorted[len(sorted)/2]
	if !t.known {
		t.baseline = max(t.median, 0)
		t.known = true
		t.window = nil // these are not looked at again
		return false
	}
	t.window = t.window[1:]
	limit := max(int64(float64(t.baseline)*(t.growth-1)), t.least)
	switch over := t.median - t.baseline; {
	case over > limit && !t.grown:
		t.grown = true
		return true
	case over < limit/2:
		t.grown = false
	}
	return false
}

// profile of the heap, gzipped as pprof reads it.
type profile struct {
	number int
	at     time.Time
	data   []byte
}

// maxProfile bounds one, in bytes. They have a few hundred KB.
const maxProfile = 4 << 20

// keepProfile keeps a profile of the heap now, and the newest of those before. It returns its number; 0: there is none.
func (m *memory) keepProfile() int {
	var b bytes.Buffer
	if err := pprof.Lookup("heap").WriteTo(&b, 0); err != nil || b.Len() > maxProfile {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.profiled++
	m.profiles = append(m.profiles, profile{m.profiled, time.Now(), b.Bytes()})
	if over := len(m.profiles) - m.o.Profiles; over > 0 {
		m.profiles = slices.Delete(m.profiles, 0, over)
	}
	return m.profiled
}
