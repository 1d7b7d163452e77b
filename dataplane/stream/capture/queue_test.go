package capture

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/internal/budget"
	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/wav"
)

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

// TestQueueBounds verifies that entries over the bound are dropped and counted, without a wait for the disk.
func TestQueueBounds(t *testing.T) {
	queue := newQueue()
	frame := bytes.Repeat([]byte("A"), 1000)
	const n = 3 * maxQueued / 1000
	for range n {
		queue.Caller(frame, 0)
	}
	b, dropped := queue.take(batch{})
	if len(b.text) > maxQueued || len(b.entries)+int(dropped) != n || dropped < n/2 {
		t.Errorf("%d bytes wait in %d entries, and %d were dropped", len(b.text), len(b.entries), dropped)
	}
	for range maxQueued {
		queue.Clear(0)
	}
	if b, dropped = queue.take(batch{}); len(b.entries) > maxQueued/64 || dropped == 0 {
		t.Errorf("%d entries without audio wait, and %d were dropped", len(b.entries), dropped)
	}
	queue.close()
	queue.Agent(frame, 0)
	if b, dropped = queue.take(b); len(b.entries) != 0 || dropped != 0 {
		t.Errorf("after its end %d wait, %d were dropped", len(b.entries), dropped)
	}
}

// TestQueuesShare checks that slow queues together stay within the shared bound, including what the recorder has
// taken. Each also has a reserve of its own.
func TestQueuesShare(t *testing.T) {
	const free, most = 10_000, 20_000
	memory := budget.New(most)
	one := newQueue()
	two := newQueue()
	one.room, two.room = memory.Share(free), memory.Share(free)
	frame := bytes.Repeat([]byte("A"), 984) // 1000 bytes with its entry
	say := func(q *queue, n int) (kept int) {
		before := len(q.in.entries)
		for range n {
			q.Agent(frame, 0)
		}
		return len(q.in.entries) - before
	}
	if n := say(one, 100); n != 30 || memory.InUse() != most {
		t.Errorf("the first keeps %d, and %d bytes are in use", n, memory.InUse())
	}
	if n := say(two, 100); n != 10 {
		t.Errorf("the second keeps %d of its own", n)
	}
	b, dropped := one.take(batch{})
	if n := say(one, 100); n != 0 || dropped != 70 {
		t.Errorf("while the recorder has it, %d more are kept; %d were dropped", n, dropped)
	}
	b, _ = one.take(b)
	if n := say(one, 100); len(b.entries) != 0 || n != 30 {
		t.Errorf("once it is written, %d are kept", n)
	}
	one.close()
	if two.close(); memory.InUse() != 0 {
		t.Errorf("%d bytes are in use in the end", memory.InUse())
	}
}

// TestQueueOrder verifies that the recorder gets the entries in order, and that a later change of a frame does not
// change them.
func TestQueueOrder(t *testing.T) {
	queue := newQueue()
	frame := []byte("one")
	queue.Caller(frame, 1)
	copy(frame, "two")
	queue.Agent(frame, 2)
	queue.Clear(3)
	b, _ := queue.take(batch{})
	want := batch{entries: []entry{{1, 3, fromCaller}, {2, 3, fromAgent}, {3, 0, cleared}}, text: []byte("onetwo")}
	if diff := cmp.Diff(want, b, cmp.AllowUnexported(batch{}, entry{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestQueueAllocates verifies that a queue that has its memory does not allocate.
func TestQueueAllocates(t *testing.T) {
	queue := newQueue()
	frame := bytes.Repeat([]byte("A"), 428) // 20 ms at 8 kHz
	var b batch
	look := func() {
		for range 12 {
			queue.Caller(frame, time.Second)
			queue.Agent(frame, time.Second)
		}
		b, _ = queue.take(b)
	}
	for range 3 {
		look()
	}
	if n := testing.AllocsPerRun(1000, look); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestQueueWakes verifies that a burst wakes the recorder before its next look.
func TestQueueWakes(t *testing.T) {
	queue := newQueue()
	queue.Agent(make([]byte, wakeAt-1), 0)
	select {
	case <-queue.wake:
		t.Fatal("it wakes for little")
	default:
	}
	queue.Agent(make([]byte, 1), 0)
	queue.Agent(make([]byte, 1), 0)
	<-queue.wake
}

// TestBudget verifies that a tenant gets at most half of the space, and that returned space is free again.
func TestBudget(t *testing.T) {
	b := newBudget(100)
	for i, tc := range []struct {
		tenant string
		n      int64
		want   bool
	}{
		{acme, 50, true},
		{acme, 1, false},
		{globex, 40, true},
		{globex, 11, false},
		{"third/one", 10, true},
		{"third/one", 1, false},
	} {
		if got := b.take(tc.tenant, tc.n); got != tc.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
	b.give(acme, 50)
	b.occupy(globex, 60) // of a process before
	if b.take(acme, 1) || b.inUse() != 110 {
		t.Errorf("%d are in use", b.inUse())
	}
	b.give(globex, 100)
	b.give("third/one", 10)
	if !b.take(acme, 50) || b.inUse() != 50 || len(b.users) != 1 {
		t.Errorf("%d are in use by %v", b.inUse(), b.users)
	}
}

// TestSpoolTrims verifies that trim cuts a file to whole samples.
func TestSpoolTrims(t *testing.T) {
	for name, tc := range map[string]struct {
		bytes, want int64
	}{"nothing": {0, 0}, "half a header": {20, 0}, "a header": {44, 44}, "whole": {48, 48}, "torn": {51, 48}} {
		s := &spool{dir: t.TempDir(), tenant: acme, budget: newBudget(1 << 20)}
		if _, err := s.Write(make([]byte, tc.bytes)); err != nil {
			t.Fatal(err)
		}
		if tc.bytes == 0 {
			if err := s.next(); err != nil {
				t.Fatal(err)
			}
		}
		s.close()
		if got, err := s.trim(1); got != tc.want || err != nil {
			t.Errorf("%s: %d, %v", name, got, err)
		}
		s.close()
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	}
}

// TestSizeOf verifies that SizeOf reads the size of a header, and reports whether the header states it.
func TestSizeOf(t *testing.T) {
	for name, tc := range map[string]struct {
		header []byte
		size   int64
		ok     bool
	}{
		"known":    {wav.CallHeader(8000, 4000), 4000, true},
		"unknown":  {wav.CallHeader(8000, 1<<40), 1<<32 - 1, false},
		"short":    {wav.CallHeader(8000, 4000)[:43], 0, false},
		"no audio": {bytes.Repeat([]byte("x"), 44), 0, false},
	} {
		if size, ok := wav.SizeOf(tc.header); size != tc.size || ok != tc.ok {
			t.Errorf("%s: %d, %v", name, size, ok)
		}
	}
}

// TestMemory verifies the memory of a captured call at 8 kHz in frames of 20 ms. It does not grow with the call's
// length.
func TestMemory(t *testing.T) {
	const calls, most = 100, 160 << 10
	config := storageConfig{Bucket: "b", Endpoint: "http://127.0.0.1:1", Region: "r", Key: "k", Secret: "s"}
	captures, err := New(Options{Store: idle{}, Pod: "pod", Dir: t.TempDir(), Tenants: config.tenants})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); _ = captures.Run(ctx) }()
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := heap()
	tenant, _ := captures.o.Tenants().Tenant(acme)
	var list []*Capture
	for range calls {
		capture := captures.Begin(tenant, store.NewID(), 8000)
		capture.Started(agentstream.StartInfo{CallSID: "c", SampleRate: 8000})
		list = append(list, capture)
	}
	const every = 20 * time.Millisecond // as a call sends its frames
	frame := payload(noise(0, 160, 7))
	for range 150 { // 3 s
		for _, s := range list {
			s.Tap().Caller(frame, bridge.Now())
			s.Tap().Agent(frame, bridge.Now())
		}
		time.Sleep(every)
	}
	each := (int64(heap()) - int64(before)) / calls
	t.Logf("%d bytes for each call", each)
	if each > most {
		t.Errorf("%d bytes for each call, and may be %d", each, most)
	}
	for _, s := range list {
		s.lose()
	}
}

// idle is a database with nothing in it.
type idle struct{}

func (idle) BeginCapture(context.Context, store.Capture) error                  { return nil }
func (idle) RefuseCapture(context.Context, store.Capture, string, string) error { return nil }
func (idle) SetCaptureUpload(context.Context, store.CaptureRef, string, string) error {
	return nil
}
func (idle) FinishCapture(context.Context, store.CaptureRef, string, store.CaptureEnd) error {
	return nil
}
func (idle) HeartbeatCaptures(context.Context, string, []store.CaptureRef) (map[store.CaptureRef]bool, error) {
	return nil, nil
}
func (idle) ReleaseCaptures(context.Context, string, []store.CaptureRef) error { return nil }
func (idle) ClaimCaptures(context.Context, []string, string, time.Duration, int) ([]store.Capture, error) {
	return nil, nil
}
func (idle) OpenCapture(context.Context, store.CaptureRef, string) (store.Capture, error) {
	return store.Capture{}, nil
}
