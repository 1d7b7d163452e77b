package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/caly-dev/caly/dataplane/stream/capture"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/agent"
	"github.com/caly-dev/caly/internal/objectstore"
	"github.com/caly-dev/caly/internal/reason"
	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/testkit/background"
	"github.com/caly-dev/caly/internal/testkit/s3test"
	"github.com/caly-dev/caly/internal/testkit/tenanttest"
	"github.com/caly-dev/caly/internal/wav"
)

// newCapturingRig returns a rig whose tenant's streams are captured into a real bucket.
func newCapturingRig(t *testing.T, protocol agent.Protocol, change func(*capture.Options)) *rig {
	t.Helper()
	server := s3test.InBucket(t) // it ends after the pod, which uploads until then
	var captures *capture.Captures
	r := newRig(t, agentsim.Options{Protocol: protocol}, func(o *Options, sessions *registry.Options) {
		options := capture.Options{
			Store:          sessions.Store.(*store.Dataplane),
			Pod:            "pod",
			Dir:            t.TempDir(),
			Tenants:        o.Tenants,
			HeartbeatEvery: time.Second,
			SweepEvery:     100 * time.Millisecond,
			Stores:         objectstore.Policy{AllowHTTP: true, AllowedCIDRs: loopback},
		}
		if change != nil {
			change(&options)
		}
		var err error
		if captures, err = capture.New(options); err != nil {
			t.Fatal(err)
		}
		o.Captures = captures
	})
	stop := background.Run(t, captures.Run)
	t.Cleanup(func() { r.h.Wait(); stop() }) // after what the rig ends
	r.s3 = server
	tenant := r.tenant
	tenant.Storage = tenanttest.Storage(r.s3.Server, r.s3.Name)
	r.set(tenant)
	r.audio(func(a *tenantconfig.Audio) {
		a.Capture = &tenantconfig.Capture{KeyTemplate: "{{.CallSID}}-{{.RecordingID}}"}
	})
	return r
}

// recording waits for the only one of a tenant.
func (r *rig) recording() store.Recording {
	r.t.Helper()
	var list []store.Recording
	soon.Holds(r.t, "the recording has ended", func() bool {
		var err error
		list, _, err = r.db.Dataplane.ListRecordings(r.t.Context(), "acme/support", store.RecordingFilter{})
		return err == nil && len(list) == 1 && list[0].State != store.StateLeased
	})
	return list[0]
}

// channels reads an object of the bucket.
func (r *rig) channels(key string) (rate int, left, right []byte) {
	r.t.Helper()
	data := r.s3.Object(r.t, key)
	if size, ok := wav.SizeOf(data); !ok || int(size) != len(data)-wav.HeaderSize {
		r.t.Fatalf("the file has %d bytes, and says %d, %v", len(data), size, ok)
	}
	for frame := data[wav.HeaderSize:]; len(frame) >= 4; frame = frame[4:] {
		left, right = append(left, frame[:2]...), append(right, frame[2:4]...)
	}
	return int(binary.LittleEndian.Uint32(data[24:])), left, right
}

// spoken leaves out the silent samples, which stand for time.
func spoken(pcm []byte) (out []byte) {
	for ; len(pcm) >= 2; pcm = pcm[2:] {
		if pcm[0] != 0 || pcm[1] != 0 {
			out = append(out, pcm[:2]...)
		}
	}
	return out
}

// TestCapture verifies that the left channel is Exotel's audio and the right one the audio sent to it, for each
// protocol of the agent.
func TestCapture(t *testing.T) {
	for _, tc := range []struct {
		protocol agent.Protocol
		rate     int
		exact    bool // the agent's protocol keeps the samples
	}{{agent.Exotel, 8000, true}, {agent.PCM, 16000, true}, {agent.Twilio, 8000, false}} {
		t.Run(string(tc.protocol), func(t *testing.T) {
			rig := newCapturingRig(t, tc.protocol, nil)
			said := exotelsim.Noise(2 * tc.rate) // a second
			report, err := rig.call(rig.url+"/"+token, func(s *exotelsim.Stream) {
				s.Audio = said
				s.Rate = tc.rate
				s.CallSID = "call1"
				s.Keep = true
				s.Expect = nil
			})
			if err != nil {
				t.Fatal(err)
			}
			recording := rig.recording()
			if recording.State != store.StateUploaded || recording.CallSID != "call1" || !recording.Captured ||
				!strings.HasPrefix(recording.Key, "acme/support/call1-capture-") ||
				recording.LastErrorCode != "" {
				t.Fatalf("the recording: %+v", recording)
			}
			rate, left, right := rig.channels(recording.Key)
			if rate != tc.rate {
				t.Errorf("the rate is %d", rate)
			}
			if !bytes.Equal(spoken(left), spoken(said)) {
				t.Errorf("the caller's side has %d bytes of %d, or others", len(spoken(left)), len(spoken(said)))
			}
			heard := spoken(right)
			if want := spoken(
				report.Audio,
			); tc.exact && (!bytes.HasPrefix(want, heard) || len(heard) < len(want)*3/4) ||
				len(heard) == 0 {
				t.Errorf("the agent's side has %d bytes of %d, or others", len(heard), len(want))
			}
		})
	}
}

// TestCaptureOff verifies that a tenant without capture has no recording.
func TestCaptureOff(t *testing.T) {
	rig := newCapturingRig(t, agent.Exotel, nil)
	rig.audio(func(a *tenantconfig.Audio) { a.Capture = nil })
	if _, err := rig.call(rig.url+"/"+token, nil); err != nil {
		t.Fatal(err)
	}
	if list, _, err := rig.db.Dataplane.ListRecordings(
		t.Context(), "acme/support", store.RecordingFilter{},
	); err != nil ||
		len(list) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestCaptureFails verifies that a call goes on when its capture has no disk space or no bucket.
func TestCaptureFails(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*capture.Options)
		away   bool
		want   string
	}{
		"no place on the disk": {change: func(o *capture.Options) { o.MaxBytes = 1 }, want: reason.SpoolFull},
		"no bucket": {
			change: func(o *capture.Options) {
				o.GiveUpAfter = time.Second
				o.FinishWithin = time.Second
				o.RequestWithin = time.Second
			},
			away: true,
			want: reason.StorageFailed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rig := newCapturingRig(t, agent.Exotel, tc.change)
			if tc.away {
				rig.s3.Stop(t)
			}
			if _, err := rig.call(rig.url+"/"+token, nil); err != nil {
				t.Errorf("the call: %v", err)
			}
			if recording := rig.recording(); recording.State != store.StateFailed ||
				recording.LastErrorCode != tc.want {
				t.Errorf("the recording: %+v", recording)
			}
		})
	}
}

// silentStore is a database that a pod's captures do not reach until it is open.
type silentStore struct {
	*store.Dataplane
	open chan struct{}
}

func (s *silentStore) BeginCapture(ctx context.Context, c store.Capture) error {
	select {
	case <-s.open:
		return s.Dataplane.BeginCapture(ctx, c)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestCaptureOfASilentPod verifies that the capture of a pod that is taken for dead fails, also without a row yet. If
// the pod lives, the capture is uploaded.
func TestCaptureOfASilentPod(t *testing.T) {
	open := make(chan struct{})
	rig := newCapturingRig(t, agent.Exotel, func(o *capture.Options) {
		o.Store = &silentStore{Dataplane: o.Store.(*store.Dataplane), open: open}
	})
	talk := make(chan error, 1)
	go func() {
		_, err := rig.call(rig.url+"/"+token, func(s *exotelsim.Stream) {
			s.Duration = time.Second
			s.Expect = nil
			s.Linger = 0
		})
		talk <- err
	}()
	// Then the next heartbeat, which would cut it off, is seconds away.
	soon.Holds(rig.t, "its row knows the call", func() bool {
		list, _, err := rig.db.Dataplane.StreamSessions(t.Context(), "acme/support", store.StreamFilter{
			Live:    true,
			CallSID: "call1",
		})
		return err == nil && len(list) == 1
	})
	if n, _, err := rig.db.Dataplane.ReapStreams(t.Context(), []string{"acme/support"}, 0, 10); n != 1 || err != nil {
		t.Fatalf("%d sessions are held for orphans, %v", n, err)
	}
	if recording := rig.recording(); recording.State != store.StateFailed ||
		recording.LastErrorCode != reason.PodLost ||
		recording.LastError == "" {
		t.Errorf("while nothing is heard of the pod: %+v", recording)
	}
	if err := <-talk; err != nil {
		t.Error(err)
	}
	close(open)
	var r store.Recording
	soon.Holds(rig.t, "it is uploaded after all", func() bool {
		r = rig.recording()
		return r.State == store.StateUploaded
	})
	if _, left, _ := rig.channels(r.Key); r.LastErrorCode != "" || len(spoken(left)) < 8000 {
		t.Errorf("the recording: %+v, and the caller speaks in %d bytes", r, len(spoken(left)))
	}
}
