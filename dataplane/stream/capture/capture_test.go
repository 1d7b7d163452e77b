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
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/wav"
)

// TestShortCall verifies that a call that fits one part becomes one object with each sample, and a recording of its
// call.
func TestShortCall(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "call1")
	call.talk(10 * time.Second)
	eventually.Within(patience).Holds(rig.t, "the row is there while the call runs", func() bool {
		return rig.row(call.session).State == "recording"
	})
	call.End()
	want := call.file(nil)
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
	rig.same(rig.object(acme, "call1", call.session), want)
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
	if n := pod.outcome(outcomeUploaded); n != 1 {
		t.Errorf("%v uploaded", n)
	}
	list, _, err := rig.db.Dataplane.ListRecordings(
		t.Context(), acme, store.RecordingFilter{Page: store.Page{Limit: 10}},
	)
	if err != nil || len(list) != 1 || !list[0].Captured || list[0].CallSID != "call1" ||
		list[0].State != store.StateUploaded {
		t.Errorf("listed: %+v, %v", list, err)
	}
	if other, _, err := rig.db.Dataplane.ListRecordings(
		t.Context(), globex, store.RecordingFilter{Page: store.Page{Limit: 10}},
	); err != nil ||
		len(other) != 0 {
		t.Errorf("another tenant sees %+v, %v", other, err)
	}
}

// TestLongCall verifies that full parts are uploaded and leave the disk while the call runs. The file has its size in
// the end.
func TestLongCall(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "call1")
	for minute := 1; minute <= 4; minute++ {
		call.talk(time.Minute)
		eventually.Within(patience).Holds(rig.t, "what is full is in the bucket", func() bool {
			return rig.parts() >= minute
		})
	}
	if n := onDisk(pod.dir); n > 3*partSize {
		t.Errorf("%d bytes are on the disk of %d that were said", n, len(call.caller)*4)
	}
	call.End()
	want := call.file(nil)
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(want)), Digest: true})
	rig.same(rig.object(acme, "call1", call.session), want)
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestWholeParts verifies a call that ends exactly at the end of a part.
func TestWholeParts(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	for name, bytes := range map[string]int{"one": partSize, "two": 2 * partSize} {
		call := pod.call(acme, name)
		samples := (bytes - wav.HeaderSize) / frame
		call.talk(time.Duration(samples) * time.Second / testRate)
		if rest := samples - len(call.caller); rest > 0 {
			left := noise(len(call.caller), rest, 7)
			right := noise(len(call.said), rest, 13)
			at := call.origin() + time.Duration(len(call.caller))*time.Second/testRate
			call.Tap().Caller(payload(left), at)
			call.Tap().Agent(payload(right), at)
			call.caller, call.said = append(call.caller, left...), append(call.said, right...)
			pod.clock.Store(int64(at + time.Duration(rest)*time.Second/testRate + time.Microsecond))
		}
		call.End()
		want := call.file(nil)
		if len(want) != bytes {
			t.Fatalf("the test makes %d bytes of %d", len(want), bytes)
		}
		eventually.Within(patience).Holds(rig.t, "it has ended", func() bool {
			return rig.row(call.session).State == "uploaded"
		})
		rig.same(rig.object(acme, name, call.session), want)
	}
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestClear verifies that audio that a clear removed is silence in the file.
func TestClear(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "call1")
	call.talk(2 * time.Second)
	now := time.Duration(pod.clock.Load())
	call.Tap().Agent(payload(noise(0, testRate, 13)), now) // a second; half of it is heard
	call.Tap().Clear(now + 500*time.Millisecond)
	call.Tap().Caller(payload(noise(len(call.caller), testRate, 7)), now)
	pod.clock.Store(int64(now + time.Second))
	call.caller = append(call.caller, noise(len(call.caller), testRate, 7)...)
	call.said = append(append(call.said, noise(0, testRate/2, 13)...), make([]int16, testRate/2)...)
	call.End()
	eventually.Within(
		patience,
	).Holds(rig.t, "it has ended", func() bool { return rig.row(call.session).State == "uploaded" })
	rig.same(rig.object(acme, "call1", call.session), call.file(nil))
}

// TestEncodings shows that mu-law is written as samples, and that other payloads are left out and counted.
func TestEncodings(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	tenant, _ := pod.o.Tenants().Tenant(acme)
	session := store.NewID()
	capture := pod.Begin(tenant, session, 0)
	capture.Started(agentstream.StartInfo{CallSID: "call1", Encoding: "audio/x-mulaw", SampleRate: 8000})
	codes := make([]byte, 160)
	for i := range codes {
		codes[i] = byte(i)
	}
	at := capture.recorder.origin
	capture.Tap().Caller([]byte(base64.StdEncoding.EncodeToString(codes)), at)
	capture.Tap().Caller([]byte("no base64 at all!"), at)
	capture.Tap().Agent([]byte(base64.RawStdEncoding.EncodeToString(codes[:100])), at)
	pod.clock.Store(int64(at + 20*time.Millisecond))
	capture.End()
	eventually.Within(
		patience,
	).Holds(rig.t, "it has ended", func() bool { return rig.row(session).State == "uploaded" })
	want := &call{
		caller: g711.AppendDecode(nil, codes),
		said:   append(g711.AppendDecode(nil, codes[:100]), make([]int16, 60)...),
	}
	rig.same(rig.object(acme, "call1", session), want.file(wav.CallHeader(8000, 640)))
	if n := counter(t, pod, "caly_captures_dropped_frames_total"); n != 1 {
		t.Errorf("%v frames are counted as left out", n)
	}
}

// TestNothing verifies that a call without audio has no recording and leaves nothing on the disk.
func TestNothing(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	tenant, _ := pod.o.Tenants().Tenant(acme)
	session := store.NewID()
	pod.Begin(tenant, session, 0).End()
	eventually.Within(patience).Holds(rig.t, "it is counted", func() bool { return pod.outcome(outcomeEmpty) == 1 })
	if got := rig.row(session); got != (row{}) {
		t.Errorf("it has a row: %+v", got)
	}
	rig.spoolEmpty(pod)
	for name, tenant := range map[string]*tenantconfig.Tenant{
		"without audio":   {ID: acme},
		"without capture": {ID: acme, Audio: &tenantconfig.Audio{}, Storage: tenant.Storage},
		"without storage": {ID: acme, Audio: tenant.Audio},
	} {
		capture := pod.Begin(tenant, store.NewID(), 0)
		if capture != nil || capture.Tap() != nil {
			t.Errorf("%s: it is captured", name)
		}
		capture.Started(agentstream.StartInfo{})
		capture.End()
	}
	var none *Captures
	if capture := none.Begin(tenant, store.NewID(), 0); capture.Tap() != nil {
		t.Error("no captures capture")
	}
}

// TestNamespaceLeavesCapturesToOthers captures three quarters of a pod's captures for one namespace, and the others
// for other namespaces.
func TestNamespaceLeavesCapturesToOthers(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.MaxCaptures = 4 })
	var calls []*call
	for i, tenant := range []string{acme, acme, acme, acme, globex} {
		calls = append(calls, pod.call(tenant, fmt.Sprintf("call%d", i)))
	}
	var captured []bool
	for _, c := range calls {
		captured = append(captured, c.Tap() != nil)
		c.End()
	}
	if diff := cmp.Diff([]bool{true, true, true, false, true}, captured); diff != "" {
		t.Errorf("captured (-want +got):\n%s", diff)
	}
	rig.settled(calls[3].session, row{State: "failed", Code: reason.NoRoom})
}

// TestNoRoom verifies that a call over the bound is not captured, and that its row has the reason. The end of a capture
// makes room.
func TestNoRoom(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.MaxCaptures = 1 })
	first := pod.call(acme, "call1")
	second := pod.call(globex, "call2")
	if second.Tap() != nil {
		t.Fatal("the second is captured")
	}
	second.End()
	second.End()
	rig.settled(second.session, row{State: "failed", Code: reason.NoRoom})
	first.talk(time.Second)
	first.End()
	rig.settled(first.session, row{State: "uploaded", Size: int64(len(first.file(nil))), Digest: true})
	eventually.Within(patience).Holds(rig.t, "there is room", func() bool { live, _ := pod.count(); return live == 0 })
	third := pod.call(acme, "call3")
	if third.Tap() == nil {
		t.Error("the third is not captured")
	}
	third.End()
}

// TestSpoolFull verifies that a capture without disk space ends, and that its file plays. Another tenant has its own
// share of the disk.
func TestSpoolFull(t *testing.T) {
	rig := newRig(t)
	rig.s3.Stop(t)
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.MaxBytes = 4 << 20 })
	call := pod.call(acme, "call1")
	call.talk(time.Minute)
	eventually.Within(patience).Holds(rig.t, "it ended before its call", func() bool {
		code, _ := call.tape.shortened()
		return code == reason.SpoolFull
	})
	other := pod.call(globex, "call2")
	other.talk(10 * time.Second)
	if n := onDisk(pod.dir); n > 4<<20 {
		t.Errorf("%d bytes are on the disk", n)
	}
	call.End()
	other.End()
	rig.s3.Start(t)
	eventually.Within(
		patience,
	).Holds(rig.t, "it has ended", func() bool { return rig.row(call.session).State == "uploaded" })
	got := rig.object(acme, "call1", call.session)
	if n := len(got); n < 1<<20 || n > 2<<20 || (n-wav.HeaderSize)%frame != 0 {
		t.Fatalf("the file has %d bytes", n)
	}
	rig.same(got, call.file(wav.CallHeader(testRate, int64(len(got)-wav.HeaderSize)))[:len(got)])
	if got := rig.row(call.session); got.Code != reason.SpoolFull ||
		got.Size != int64(len(rig.object(acme, "call1", call.session))) {
		t.Errorf("the row: %+v", got)
	}
	rig.settled(other.session, row{State: "uploaded", Size: int64(len(other.file(nil))), Digest: true})
	rig.spoolEmpty(pod)
}

// TestDiskFails verifies that a disk error ends a capture with its first part, which is uploaded.
func TestDiskFails(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "call1")
	call.talk(time.Second)
	eventually.Within(patience).Holds(rig.t, "it is on disk", func() bool { return onDisk(pod.dir) > wav.HeaderSize })
	if err := os.Mkdir(
		filepath.Join(pod.dir, spoolName(recording.CaptureID(call.session)), "00002.part"), 0o700,
	); err != nil {
		t.Fatal(err)
	}
	call.talk(2 * time.Minute)
	rig.settled(call.session, row{
		State:  "uploaded",
		Code:   reason.SpoolFailed,
		Size:   partSize,
		Digest: true,
	}) // while the call runs
	call.talk(time.Second)
	call.End()
	rig.same(
		rig.object(acme, "call1", call.session),
		call.file(wav.CallHeader(testRate, partSize-wav.HeaderSize))[:partSize],
	)
	rig.s3.WantFinished(t)
	rig.spoolEmpty(pod)
}

// TestNoPlace verifies that New fails without a directory. A directory that disappears fails the capture with a reason.
func TestNoPlace(t *testing.T) {
	rig := newRig(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Options{Store: rig.db.Dataplane, Dir: file, Tenants: rig.config.tenants}); err == nil {
		t.Error("a file is a directory")
	}
	dir := filepath.Join(t.TempDir(), "spool")
	pod := rig.pod("one", dir, nil)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	call := pod.call(acme, "call1")
	call.talk(time.Second)
	call.End()
	rig.settled(call.session, row{State: "failed", Code: reason.SpoolFailed})
	if pod.budget.inUse() != 0 {
		t.Errorf("%d bytes are in use", pod.budget.inUse())
	}
}

// TestUnsafeCall verifies that a call id with path characters cannot leave the tenant's keys.
func TestUnsafeCall(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), nil)
	call := pod.call(acme, "../../globex/sales/\x00x")
	call.talk(time.Second)
	call.End()
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(call.file(nil))), Digest: true})
	rig.same(rig.object(acme, "------globex-sales--x", call.session), call.file(nil))
	if diff := cmp.Diff(1.0, pod.outcome(outcomeUploaded)); diff != "" {
		t.Error(diff)
	}
}

// TestBreakersByDefault verifies that a pod has breakers by default, and that their metric exists before one opens.
func TestBreakersByDefault(t *testing.T) {
	rig := newRig(t)
	pod := rig.pod("one", t.TempDir(), func(o *Options) { o.Breakers = nil })
	if n := counter(t, pod, "caly_circuit_breaker_opened_total"); n != 0 {
		t.Errorf("%v have opened", n)
	}
	call := pod.call(acme, "call1")
	call.talk(time.Second)
	call.End()
	rig.settled(call.session, row{State: "uploaded", Size: int64(len(call.file(nil))), Digest: true})
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
