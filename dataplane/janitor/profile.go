package janitor

import (
	"cmp"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/caly-dev/caly/dataplane/problem"
)

// watchMemory takes a sample, and tells once of each growth, what there is most of, and which profile was kept.
func (j *Janitor) watchMemory() {
	found := j.memory.sample(j.o.Registry.Live())
	if len(found) == 0 {
		return
	}
	number := j.memory.keepProfile()
	for _, g := range found {
		top := topHeap
		if g.what == whatGoroutines {
			top = topGoroutines
		}
		j.mu.Lock()
		j.own.MemoryLeaks++
		j.mu.Unlock()
		j.m.leaks[g.what].Inc()
		j.o.Log.Warn("more is in use than the live streams explain: it may be a leak",
			"what", g.what,
			"from", g.from,
			"to", g.to,
			"most", top(),
			"streams", j.o.Registry.Live(),
			"heapProfile", number,
		)
	}
}

// Profile answers GET /api/monitoring/heap-profile with the newest profile that is kept, or ?n=NUMBER. It is for the internal listener
// alone: a profile tells of the program's inside.
func (j *Janitor) Profile() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			problem.MethodNotAllowed("the path does not support the method", "GET, HEAD").Write(w, "")
			return
		}
		profile, ok := j.memory.profile(r.URL.Query().Get("n"))
		if !ok {
			problem.New(problem.NotFound,
				"no heap profile has this number; cleanup-stats lists those of suspected leaks").Write(w, "")
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set(
			"Content-Disposition",
			fmt.Sprintf(
				`attachment; filename="heap-%d-%s.pb.gz"`, profile.number, profile.at.UTC().Format("20060102T150405Z"),
			),
		)
		_, _ = w.Write(profile.data) // the peer may have gone
	})
}

// profile by its number; "" is the newest.
func (m *memory) profile(number string) (profile, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if number == "" && len(m.profiles) > 0 {
		return m.profiles[len(m.profiles)-1], true
	}
	i := slices.IndexFunc(m.profiles, func(p profile) bool { return strconv.Itoa(p.number) == number })
	if i < 0 {
		return profile{}, false
	}
	return m.profiles[i], true
}

// topHeap names the functions that hold the most of the heap.
func topHeap() string {
	n, _ := runtime.MemProfile(nil, false)
	records := make([]runtime.MemProfileRecord, n+100)
	n, ok := runtime.MemProfile(records, false)
	if !ok {
		return "" // much was added just now
	}
	weights := map[string]int64{}
	for _, r := range records[:n] {
		weights[function(r.Stack())] += r.InUseBytes()
	}
	return top(weights)
}

// topGoroutines names the functions that the most goroutines are in.
func topGoroutines() string {
	records := make([]runtime.StackRecord, runtime.NumGoroutine()+100)
	n, ok := runtime.GoroutineProfile(records)
	if !ok {
		return ""
	}
	weights := map[string]int64{}
	for _, r := range records[:n] {
		weights[function(r.Stack())]++
	}
	return top(weights)
}

// function is the innermost one of a stack that is not the runtime's.
func function(stack []uintptr) string {
	frames := runtime.CallersFrames(stack)
	for {
		frame, more := frames.Next()
		if frame.Function != "" && !strings.HasPrefix(frame.Function, "runtime.") || !more {
			return frame.Function
		}
	}
}

// top names the three with the most.
func top(weights map[string]int64) string {
	names := make([]string, 0, len(weights))
	for name := range weights {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), strings.Compare(a, b))
	})
	var parts []string
	for _, name := range names[:min(3, len(names))] {
		parts = append(parts, fmt.Sprintf("%s %d", name, weights[name]))
	}
	return strings.Join(parts, ", ")
}
