package capture

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/caly-dev/caly/internal/exotel/agentstream"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
	"github.com/caly-dev/caly/internal/wav"
)

// childEnv has what a process that is to be killed does.
const childEnv = "CALY_TEST_CAPTURE_CHILD"

// killed is a pod in a process of its own, with a call of a number of seconds.
type killed struct {
	Config  storageConfig
	DSN     string
	Pod     string
	Dir     string
	Session string
	Seconds int
	// Parts that are in the bucket when it is ready to be killed.
	Parts int
	// End the call before.
	End bool
}

// child is the process. It says that it is ready, and waits to be killed.
func child() {
	var k killed
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &k); err != nil {
		panic(err)
	}
	db, err := store.OpenDataplane(context.Background(), k.DSN, store.Options{})
	if err != nil {
		panic(err)
	}
	options := fast(k.Config, db, k.Pod, k.Dir)
	var clock atomic.Int64
	options.now = func() time.Duration { return time.Duration(clock.Load()) }
	captures, err := New(options)
	if err != nil {
		panic(err)
	}
	go func() { _ = captures.Run(context.Background()) }()
	tenant, _ := options.Tenants().Tenant(acme)
	c := &call{session: k.Session, clock: &clock}
	c.Capture = captures.Begin(tenant, k.Session, testRate)
	c.Started(agentstream.StartInfo{CallSID: "call1", SampleRate: testRate})
	c.talk(time.Duration(k.Seconds) * time.Second)
	c.drain()
	if full := c.tape.spool.full(); full < k.Parts {
		panic(fmt.Sprintf("the spool has %d full parts, want %d", full, k.Parts))
	}
	if k.End {
		c.End()
	}
	fmt.Println("ready")
	select {}
}

// start runs the process until it is ready, and until the bucket has its parts. What it returns kills it.
func (r *rig) start(k killed) (kill func()) {
	r.t.Helper()
	spec, err := json.Marshal(k)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(spec))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.t.Fatal(err)
	}
	kill = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ready" {
		kill()
		r.t.Fatalf("the process said %q, %v", line, err)
	}
	if k.Parts > 0 {
		eventually.Within(patience).Holds(r.t, "the parts are in the bucket", func() bool {
			return r.parts() >= k.Parts
		})
	}
	return kill
}

// spoken is what the process was to capture.
func spoken(k killed) *call {
	n := k.Seconds * testRate
	return &call{session: k.Session, caller: noise(0, n, 7), said: noise(0, n, 13)}
}

// moments at which a process ends.
func (r *rig) moments() map[string]killed {
	away := r.config
	away.Endpoint = "http://127.0.0.1:1"
	return map[string]killed{
		"before a part":             {Config: r.config, Seconds: 20},
		"with parts in the bucket":  {Config: r.config, Seconds: 150, Parts: 2},
		"after the call, and alone": {Config: away, Seconds: 20, End: true},
		"after a long call":         {Config: away, Seconds: 120, End: true},
	}
}

// TestProcessEnds checks that a container that restarts in its pod brings what is on the disk to the bucket, with the
// right header.
func TestProcessEnds(t *testing.T) {
	rig := newRig(t)
	for name, k := range rig.moments() {
		t.Run(name, func(t *testing.T) {
			rig.t = t
			k.DSN, k.Pod, k.Dir, k.Session = rig.db.DataplaneDSN, "pod", t.TempDir(), store.NewID()
			rig.start(k)()
			pod := rig.pod("pod", k.Dir, nil)
			defer pod.end()
			eventually.Within(patience).Holds(rig.t, "it has ended", func() bool {
				s := rig.row(k.Session).State
				return s == "uploaded" || s == "failed"
			})
			rig.playable(k, rig.row(k.Session), true)
			rig.s3.WantFinished(t)
			rig.spoolEmpty(pod)
		})
	}
}

// TestPodLost verifies that another pod completes the file from the parts in the bucket, or fails the capture with
// PodLost. No upload is left.
func TestPodLost(t *testing.T) {
	t.Parallel() // it mostly waits
	rig := newRig(t)
	other := rig.pod("other", t.TempDir(), nil)
	for name, k := range rig.moments() {
		t.Run(name, func(t *testing.T) {
			rig.t = t
			k.DSN, k.Pod, k.Dir, k.Session = rig.db.DataplaneDSN, "gone "+name, t.TempDir(), store.NewID()
			kill := rig.start(k)
			eventually.Within(patience).Holds(rig.t, "it has a row", func() bool {
				return rig.row(k.Session).State == "recording"
			})
			kill()
			eventually.Within(patience).Holds(rig.t, "it has ended", func() bool {
				s := rig.row(k.Session).State
				return s == "uploaded" || s == "failed"
			})
			if k.Parts == 0 {
				if got := rig.row(k.Session); got != (row{
					State: "failed",
					Code:  reason.PodLost,
				}) || rig.object(acme, "call1", k.Session) != nil {
					t.Errorf("the row: %+v", got)
				}
			} else {
				got := rig.row(k.Session)
				if got.Code != reason.PodLost || got.Size != int64(k.Parts)*partSize {
					t.Errorf("the row: %+v", got)
				}
				rig.playable(k, got, false)
			}
			rig.s3.WantFinished(t)
		})
	}
	if live, waiting := other.count(); live+waiting != 0 {
		t.Errorf("%d live, %d waiting", live, waiting)
	}
}

// playable compares the object with what was said, up to half a second that was in memory. exact is a header with the size.
func (r *rig) playable(k killed, got row, exact bool) {
	r.t.Helper()
	data := r.object(acme, "call1", k.Session)
	if got.State != "uploaded" || got.Size != int64(len(data)) || (len(data)-wav.HeaderSize)%frame != 0 {
		r.t.Fatalf("the row is %+v, and the object has %d bytes", got, len(data))
	}
	if size, known := wav.SizeOf(data); known != exact || exact && size != int64(len(data)-wav.HeaderSize) {
		r.t.Errorf("its header says %d bytes of audio (%v), and it has %d", size, known, len(data)-wav.HeaderSize)
	}
	want := spoken(k).file(data[:wav.HeaderSize])
	least := k.Parts * partSize
	if exact {
		least = len(want) - testRate*frame
	}
	if len(data) < least || len(data) > len(want) {
		r.t.Fatalf("the file has %d bytes of %d", len(data), len(want))
	}
	r.same(data, want[:len(data)])
}

// TestUnknownUpload verifies that a multipart upload whose id was never stored is found by its key.
func TestUnknownUpload(t *testing.T) {
	rig := newRig(t)
	for name, parts := range map[string]int{"empty": 0, "with a part": 1} {
		ref := store.CaptureRef{Tenant: acme, ID: fmt.Sprintf("%016x", parts)}
		session := store.NewID()
		key := acme + "/" + name + "/capture-" + session + ".wav"
		row := store.Capture{
			CaptureRef: ref,
			Session:    session,
			CallSID:    name,
			Pod:        "gone",
			Bucket:     rig.s3.Name,
			Key:        key,
			CreatedAt:  time.Now(),
		}
		if err := rig.db.Dataplane.BeginCapture(t.Context(), row); err != nil {
			t.Fatal(err)
		}
		id, err := rig.s3.Core.NewMultipartUpload(t.Context(), rig.s3.Name, key, minio.PutObjectOptions{})
		if err != nil {
			t.Fatal(err)
		}
		content := append(wav.CallHeader(8000, 1<<40), make([]byte, 4000)...)
		for n := 1; n <= parts; n++ {
			if _, err := rig.s3.Core.PutObjectPart(
				t.Context(),
				rig.s3.Name,
				key,
				id,
				n,
				strings.NewReader(string(content)),
				int64(len(content)),
				minio.PutObjectPartOptions{},
			); err != nil {
				t.Fatal(err)
			}
		}
		rig.pod("other "+name, t.TempDir(), nil)
		eventually.Within(patience).Holds(rig.t, "it has ended", func() bool {
			return rig.row(session).State != "recording"
		})
		if got := rig.row(session); parts == 1 && (got.State != "uploaded" || got.Size != int64(len(content))) ||
			parts == 0 && got.State != "failed" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// The checksum of the bucket is unknown, so nothing was verified.
	n := rig.db.Number(t, "SELECT count(*) FROM captures WHERE error LIKE '%; %only the length was compared'")
	if n != 1 {
		t.Errorf("%d rows say that only the length was compared, want the uploaded one", n)
	}
	rig.s3.WantFinished(t)
}
