package capture

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/g711"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/wav"
)

// TestShortCall : a call that fits one part is one object, sample for sample, and a recording of its call.
func TestShortCall(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	c := p.call(acme, "call1")
	c.talk(10 * time.Second)
	eventually.Within(patience).Holds(r.t, "the row is there while the call runs", func() bool {
		return r.row(c.session).State == "recording"
	})
	c.End()
	want := c.file(nil)
	r.settled(c.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
	r.same(r.object(acme, "call1", c.session), want)
	r.noUploads()
	r.spoolEmpty(p)
	if n := p.outcome(outcomeUploaded); n != 1 {
		t.Errorf("%v uploaded", n)
	}
	list, _, err := r.db.ListRecordings(t.Context(), acme, store.RecordingFilter{Page: store.Page{Limit: 10}})
	if err != nil || len(list) != 1 || !list[0].Captured || list[0].CallSID != "call1" || list[0].State != store.StateUploaded {
		t.Errorf("listed: %+v, %v", list, err)
	}
	if other, _, err := r.db.ListRecordings(t.Context(), globex, store.RecordingFilter{Page: store.Page{Limit: 10}}); err != nil || len(other) != 0 {
		t.Errorf("another tenant sees %+v, %v", other, err)
	}
}

// TestLongCall : parts go out while the call runs and leave the disk, and the file has its size in the end.
func TestLongCall(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	c := p.call(acme, "call1")
	for minute := 1; minute <= 4; minute++ {
		c.talk(time.Minute)
		eventually.Within(patience).Holds(r.t, "what is full is in the bucket", func() bool {
			return r.parts() >= minute
		})
	}
	if n := onDisk(p.dir); n > 3*partSize {
		t.Errorf("%d bytes are on the disk of %d that were said", n, len(c.caller)*4)
	}
	c.End()
	want := c.file(nil)
	r.settled(c.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
	r.same(r.object(acme, "call1", c.session), want)
	r.noUploads()
	r.spoolEmpty(p)
}

// TestWholeParts : a call that ends with a part.
func TestWholeParts(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	for name, bytes := range map[string]int{"one": partSize, "two": 2 * partSize} {
		c := p.call(acme, name)
		samples := (bytes - wav.HeaderSize) / frame
		c.talk(time.Duration(samples) * time.Second / testRate)
		if rest := samples - len(c.caller); rest > 0 {
			left, right := noise(len(c.caller), rest, 7), noise(len(c.said), rest, 13)
			at := c.origin() + time.Duration(len(c.caller))*time.Second/testRate
			c.Tap().Caller(payload(left), at)
			c.Tap().Agent(payload(right), at)
			c.caller, c.said = append(c.caller, left...), append(c.said, right...)
			p.clock.Store(int64(at + time.Duration(rest)*time.Second/testRate + time.Microsecond))
		}
		c.End()
		want := c.file(nil)
		if len(want) != bytes {
			t.Fatalf("the test makes %d bytes of %d", len(want), bytes)
		}
		eventually.Within(patience).Holds(r.t, "it has ended", func() bool {
			return r.row(c.session).State == "uploaded"
		})
		r.same(r.object(acme, name, c.session), want)
	}
	r.noUploads()
	r.spoolEmpty(p)
}

// TestClear : what Exotel was told to forget was not heard.
func TestClear(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	c := p.call(acme, "call1")
	c.talk(2 * time.Second)
	now := time.Duration(p.clock.Load())
	c.Tap().Agent(payload(noise(0, testRate, 13)), now) // a second, of which half is heard
	c.Tap().Clear(now + 500*time.Millisecond)
	c.Tap().Caller(payload(noise(len(c.caller), testRate, 7)), now)
	p.clock.Store(int64(now + time.Second))
	c.caller = append(c.caller, noise(len(c.caller), testRate, 7)...)
	c.said = append(append(c.said, noise(0, testRate/2, 13)...), make([]int16, testRate/2)...)
	c.End()
	eventually.Within(patience).Holds(r.t, "it has ended", func() bool { return r.row(c.session).State == "uploaded" })
	r.same(r.object(acme, "call1", c.session), c.file(nil))
}

// TestEncodings : mu-law is written as samples, and what is no audio is left out and counted.
func TestEncodings(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	tenant, _ := p.o.Tenants().Tenant(acme)
	session := store.NewID()
	s := p.Begin(tenant, session, 0)
	s.Started(agentstream.StartInfo{CallSID: "call1", Encoding: "audio/x-mulaw", SampleRate: 8000})
	codes := make([]byte, 160)
	for i := range codes {
		codes[i] = byte(i)
	}
	at := s.recorder.origin
	s.Tap().Caller([]byte(base64.StdEncoding.EncodeToString(codes)), at)
	s.Tap().Caller([]byte("no base64 at all!"), at)
	s.Tap().Agent([]byte(base64.RawStdEncoding.EncodeToString(codes[:100])), at)
	p.clock.Store(int64(at + 20*time.Millisecond))
	s.End()
	eventually.Within(patience).Holds(r.t, "it has ended", func() bool { return r.row(session).State == "uploaded" })
	want := &call{caller: g711.AppendDecode(nil, codes), said: append(g711.AppendDecode(nil, codes[:100]), make([]int16, 60)...)}
	r.same(r.object(acme, "call1", session), want.file(wav.CallHeader(8000, 640)))
	if n := counter(t, p, "caly_captures_dropped_frames_total"); n != 1 {
		t.Errorf("%v frames are counted as left out", n)
	}
}

// TestNothing : without audio there is no recording, and nothing is left.
func TestNothing(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	tenant, _ := p.o.Tenants().Tenant(acme)
	session := store.NewID()
	p.Begin(tenant, session, 0).End()
	eventually.Within(patience).Holds(r.t, "it is counted", func() bool { return p.outcome(outcomeEmpty) == 1 })
	if got := r.row(session); got != (row{}) {
		t.Errorf("it has a row: %+v", got)
	}
	r.spoolEmpty(p)
	for name, tenant := range map[string]*tenantconfig.Tenant{
		"without audio":   {ID: acme},
		"without capture": {ID: acme, Audio: &tenantconfig.Audio{}, Storage: tenant.Storage},
		"without storage": {ID: acme, Audio: tenant.Audio},
	} {
		s := p.Begin(tenant, store.NewID(), 0)
		if s != nil || s.Tap() != nil {
			t.Errorf("%s: it is captured", name)
		}
		s.Started(agentstream.StartInfo{})
		s.End()
	}
	var none *Captures
	if s := none.Begin(tenant, store.NewID(), 0); s.Tap() != nil {
		t.Error("no captures capture")
	}
}

// TestNamespaceLeavesCapturesToOthers captures three quarters of a pod's captures for one namespace, and the others
// for other namespaces.
func TestNamespaceLeavesCapturesToOthers(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), func(o *Options) { o.MaxCaptures = 4 })
	var calls []*call
	for i, tenant := range []string{acme, acme, acme, acme, globex} {
		calls = append(calls, p.call(tenant, fmt.Sprintf("call%d", i)))
	}
	var captured []bool
	for _, c := range calls {
		captured = append(captured, c.Tap() != nil)
		c.End()
	}
	if diff := cmp.Diff([]bool{true, true, true, false, true}, captured); diff != "" {
		t.Errorf("captured (-want +got):\n%s", diff)
	}
	r.settled(calls[3].session, row{State: "failed", Code: CodeNoRoom})
}

// TestNoRoom : a call beyond the bound goes on uncaptured, and a row says why. Its end makes room.
func TestNoRoom(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), func(o *Options) { o.MaxCaptures = 1 })
	first, second := p.call(acme, "call1"), p.call(globex, "call2")
	if second.Tap() != nil {
		t.Fatal("the second is captured")
	}
	second.End()
	second.End()
	r.settled(second.session, row{State: "failed", Code: CodeNoRoom})
	first.talk(time.Second)
	first.End()
	r.settled(first.session, row{State: "uploaded", Size: int64(len(first.file(nil))), Digest: true})
	eventually.Within(patience).Holds(r.t, "there is room", func() bool { live, _ := p.count(); return live == 0 })
	third := p.call(acme, "call3")
	if third.Tap() == nil {
		t.Error("the third is not captured")
	}
	third.End()
}

// TestSpoolFull : a capture that finds no room ends, and what there was of it plays. Another tenant has its own part of the room.
func TestSpoolFull(t *testing.T) {
	r := newRig(t)
	r.s3.Stop(t)
	p := r.pod("one", t.TempDir(), func(o *Options) { o.MaxBytes = 4 << 20 })
	c := p.call(acme, "call1")
	c.talk(time.Minute)
	eventually.Within(patience).Holds(r.t, "it ended before its call", func() bool {
		code, _ := c.tape.shortened()
		return code == CodeSpoolFull
	})
	other := p.call(globex, "call2")
	other.talk(10 * time.Second)
	if n := onDisk(p.dir); n > 4<<20 {
		t.Errorf("%d bytes are on the disk", n)
	}
	c.End()
	other.End()
	r.s3.Start(t)
	eventually.Within(patience).Holds(r.t, "it has ended", func() bool { return r.row(c.session).State == "uploaded" })
	got := r.object(acme, "call1", c.session)
	if n := len(got); n < 1<<20 || n > 2<<20 || (n-wav.HeaderSize)%frame != 0 {
		t.Fatalf("the file has %d bytes", n)
	}
	r.same(got, c.file(wav.CallHeader(testRate, int64(len(got)-wav.HeaderSize)))[:len(got)])
	if got := r.row(c.session); got.Code != CodeSpoolFull || got.Size != int64(len(r.object(acme, "call1", c.session))) {
		t.Errorf("the row: %+v", got)
	}
	r.settled(other.session, row{State: "uploaded", Size: int64(len(other.file(nil))), Digest: true})
	r.spoolEmpty(p)
}

// TestDiskFails : the disk takes no second part.
func TestDiskFails(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	c := p.call(acme, "call1")
	c.talk(time.Second)
	eventually.Within(patience).Holds(r.t, "it is on disk", func() bool { return onDisk(p.dir) > wav.HeaderSize })
	if err := os.Mkdir(filepath.Join(p.dir, spoolName(recording.CaptureID(c.session)), "00002.part"), 0o700); err != nil {
		t.Fatal(err)
	}
	c.talk(2 * time.Minute)
	r.settled(c.session, row{State: "uploaded", Code: CodeSpoolFailed, Size: partSize, Digest: true}) // while the call runs
	c.talk(time.Second)
	c.End()
	r.same(r.object(acme, "call1", c.session), c.file(wav.CallHeader(testRate, partSize-wav.HeaderSize))[:partSize])
	r.noUploads()
	r.spoolEmpty(p)
}

// TestNoPlace : without a directory there is nothing to start with; one that goes away fails the capture with a reason.
func TestNoPlace(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Store: r.db, Dir: file, Tenants: r.config.tenants}); err == nil {
		t.Error("a file is a directory")
	}
	dir := filepath.Join(t.TempDir(), "spool")
	p := r.pod("one", dir, nil)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	c := p.call(acme, "call1")
	c.talk(time.Second)
	c.End()
	r.settled(c.session, row{State: "failed", Code: CodeSpoolFailed})
	if p.budget.inUse() != 0 {
		t.Errorf("%d bytes are in use", p.budget.inUse())
	}
}

// TestUnsafeCall : a call whose id could lead out of the tenant's keys.
func TestUnsafeCall(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), nil)
	c := p.call(acme, "../../globex/sales/\x00x")
	c.talk(time.Second)
	c.End()
	r.settled(c.session, row{State: "uploaded", Size: int64(len(c.file(nil))), Digest: true})
	r.same(r.object(acme, "------globex-sales--x", c.session), c.file(nil))
	if diff := cmp.Diff(1.0, p.outcome(outcomeUploaded)); diff != "" {
		t.Error(diff)
	}
}

// TestBreakersByDefault : a pod has them, and their metric is there before they open.
func TestBreakersByDefault(t *testing.T) {
	r := newRig(t)
	p := r.pod("one", t.TempDir(), func(o *Options) { o.Breakers = nil })
	if n := counter(t, p, "caly_circuit_breaker_opened_total"); n != 0 {
		t.Errorf("%v have opened", n)
	}
	c := p.call(acme, "call1")
	c.talk(time.Second)
	c.End()
	r.settled(c.session, row{State: "uploaded", Size: int64(len(c.file(nil))), Digest: true})
}

func counter(t *testing.T, p *pod, name string) float64 {
	t.Helper()
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
