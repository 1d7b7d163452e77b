package janitor

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestLeak checks which series count as a leak. A step is a number of samples of one value; heap is in MiB.
func TestLeak(t *testing.T) {
	type step struct{ samples, heap, goroutines, streams int }
	steady := step{20, 100, 200, 0}
	for name, tc := range map[string]struct {
		steps []step
		want  []string
	}{
		"nothing grows":     {[]step{steady, {100, 100, 200, 0}}, nil},
		"too early to tell": {[]step{{9, 100, 200, 0}, {9, 900, 9000, 0}}, nil},
		"the heap":          {[]step{steady, {20, 200, 200, 0}}, []string{"heap"}},
		"goroutines":        {[]step{steady, {20, 100, 2000, 0}}, []string{"goroutines"}},
		"both":              {[]step{steady, {20, 200, 2000, 0}}, []string{"heap", "goroutines"}},
		"calls come":        {[]step{steady, {20, 100 + 200, 200 + 8000, 1000}}, nil},
		"calls come and go": {[]step{steady, {20, 300, 8200, 1000}, {20, 100, 200, 0}}, nil},
		"calls go, and leave theirs": {
			[]step{steady, {20, 300, 8200, 1000}, {20, 300, 8200, 0}},
			[]string{"heap", "goroutines"},
		},
		"a peak":                {[]step{steady, {4, 900, 9000, 0}, {20, 100, 200, 0}}, nil},
		"peaks in the baseline": {[]step{{4, 900, 9000, 0}, {10, 100, 200, 0}, {30, 100, 200, 0}}, nil},
		"a little":              {[]step{steady, {30, 155, 600, 0}}, nil},
		"once while it lasts":   {[]step{steady, {30, 200, 200, 0}, {30, 400, 200, 0}}, []string{"heap"}},
		"again after it was over": {
			[]step{steady, {20, 200, 200, 0}, {20, 100, 200, 0}, {20, 200, 200, 0}},
			[]string{"heap", "heap"},
		},
		"not again while it goes to and fro": {
			[]step{steady, {20, 180, 200, 0}, {20, 150, 200, 0}, {20, 180, 200, 0}},
			[]string{"heap"},
		},
		"started under load": {[]step{{20, 350, 8200, 1000}, {20, 150, 200, 0}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var now Usage
			memoryOptions := MemoryOptions{Skip: -1, Read: func() Usage { return now }}
			memoryOptions.setDefaults()
			memory := newMemory(memoryOptions)
			var got []string
			for _, s := range tc.steps {
				now = Usage{HeapBytes: uint64(s.heap) << 20, Goroutines: s.goroutines}
				for range s.samples {
					for _, g := range memory.sample(s.streams) {
						got = append(got, g.what)
					}
				}
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(memory.heap.window) > memoryOptions.Samples ||
				len(memory.goroutines.window) > memoryOptions.Samples {
				t.Errorf("%d samples are kept", len(memory.heap.window))
			}
		})
	}
}

// TestWarmUp verifies that the samples of the warm-up do not count for the baseline.
func TestWarmUp(t *testing.T) {
	now := Usage{HeapBytes: 1 << 20, Goroutines: 1}
	memoryOptions := MemoryOptions{Samples: 1, Skip: 2, Read: func() Usage { return now }}
	memoryOptions.setDefaults()
	memory := newMemory(memoryOptions)
	memory.sample(0)
	memory.sample(0)
	now = Usage{HeapBytes: 900 << 20, Goroutines: 9000}
	for range 3 {
		if found := memory.sample(0); len(found) > 0 {
			t.Errorf("it grew: %v", found)
		}
	}
	if memoryUsage := memory.usage(0); memoryUsage.BaselineHeapBytes != 900<<20 ||
		memoryUsage.BaselineGoroutines != 9000 {
		t.Errorf("the baseline is %+v", memoryUsage)
	}
}

// TestReadUsage verifies that the runtime has the metrics that readUsage reads.
func TestReadUsage(t *testing.T) {
	if usage := readUsage(); usage.Goroutines < 2 || usage.Goroutines > 10_000 || usage.HeapBytes > 1<<40 {
		t.Errorf("%+v", usage)
	}
}

// TestProfile verifies that a leak is logged once, with its largest allocations, and that only the newest profiles are
// stored.
func TestProfile(t *testing.T) {
	now := Usage{HeapBytes: 100 << 20, Goroutines: 200}
	var log bytes.Buffer
	j := New(Options{
		Store:    &reaper{},
		Registry: &fakeStreams{},
		Tenants:  tenants,
		Log:      slog.New(slog.NewTextHandler(&log, nil)),
		Memory:   MemoryOptions{Skip: -1, Samples: 2, Profiles: 2, Read: func() Usage { return now }},
	})
	get := func(method, query string) *httptest.ResponseRecorder {
		recorder := httptest.NewRecorder()
		j.Profile().ServeHTTP(recorder, httptest.NewRequest(method, "/api/monitoring/heap-profile"+query, nil))
		return recorder
	}
	if recorder := get("GET", ""); recorder.Code != 404 {
		t.Errorf("before any: %d", recorder.Code)
	}
	for range 3 { // times that it grows, and is over
		for _, heap := range []uint64{100, 300, 100} {
			now.HeapBytes = heap << 20
			for range 4 {
				j.watchMemory()
			}
		}
	}
	if stats := j.Stats(t.Context()); stats.MemoryLeaksDetected != 3 ||
		!cmp.Equal(stats.MemoryUsage.HeapProfiles, []int{2, 3}) ||
		stats.MemoryUsage.Suspected {
		t.Errorf("%+v", stats)
	}
	if n := strings.Count(log.String(), "what=heap from=104857600 to=314572800 most="); n != 3 {
		t.Errorf("it is told %d times: %s", n, log.String())
	}
	for query, want := range map[string]int{"": 200, "?n=3": 200, "?n=2": 200, "?n=1": 404, "?n=x": 404, "?n=-1": 404} {
		recorder := get("GET", query)
		if recorder.Code != want {
			t.Errorf("%q answers %d, want %d", query, recorder.Code, want)
		}
		if want != 200 {
			continue
		}
		reader, err := gzip.NewReader(recorder.Body)
		if err != nil {
			t.Fatalf("%q is not a profile: %v", query, err)
		}
		if data, err := io.ReadAll(reader); err != nil || !bytes.Contains(data, []byte("inuse_space")) {
			t.Errorf("%q is not a heap profile: %v", query, err)
		}
	}
	if recorder := get("POST", ""); recorder.Code != 405 || recorder.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST answers %d", recorder.Code)
	}
}

// TestTop checks that the report names the largest consumers and little else.
func TestTop(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	for range 50 {
		go leakedInTest(stop)
	}
	eventually.Holds(t, "they are named", func() bool {
		got := topGoroutines()
		return strings.Contains(got, "janitor.leakedInTest 50") && strings.Count(got, ",") <= 2
	})
	if got := topHeap(); strings.Count(got, ",") > 2 || strings.Contains(got, "runtime.mallocgc") {
		t.Errorf("heap: %q", got)
	}
	if got := top(map[string]int64{"d": 1, "b": 2, "a": 2, "c": 1 << 40}); got != "c 1099511627776, a 2, b 2" {
		t.Errorf("the order is %q", got)
	}
}

func leakedInTest(stop chan struct{}) { <-stop }
