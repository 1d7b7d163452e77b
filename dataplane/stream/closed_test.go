package stream

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/dataplane/stream/bridge"
	"github.com/caly-dev/caly/dataplane/stream/registry"
	"github.com/caly-dev/caly/internal/store"
)

// TestEndedFromOutside verifies the end of a call that a person closes, and of one whose row a janitor has ended. Both
// sides, the row and the metric agree. Live counts are in the database.
func TestEndedFromOutside(t *testing.T) {
	rig := newWiredRig(t, func(_ *Options, l *registry.Options) { l.HeartbeatEvery = 20 * time.Millisecond })
	db := rig.db.Dataplane
	orphan := func(id string) error {
		rig.db.Exec(t, `UPDATE stream_sessions SET ended_at = now(), end_reason = 'orphaned' WHERE id = $1`, id)
		return nil
	}
	for reason, tc := range map[bridge.Reason]struct {
		code int
		end  func(id string) error
	}{
		bridge.Closed: {1000, func(id string) error {
			_, err := db.CloseStream(t.Context(), rig.tenant.ID, id, store.Origin{})
			return err
		}},
		bridge.Orphaned: {1001, orphan},
	} {
		t.Run(string(reason), func(t *testing.T) {
			rig.t = t
			callSID := "call-" + string(reason)
			exotel, agent := rig.begin(callSID)
			exotel.Text(media(1))
			agent.Expect(media(1))
			agent.Text(media(2))
			exotel.Expect(media(2))
			streamSession := rig.counted(db, callSID, 3, 1)
			if err := tc.end(streamSession.ID); err != nil {
				t.Fatal(err)
			}
			told := make(chan closed, 1)
			go func() { told <- closedWith(agent) }()
			want := closed{tc.code, string(reason)}
			if diff := cmp.Diff([]closed{want, want}, []closed{closedWith(exotel), <-told}); diff != "" {
				t.Errorf("the sides were told (-want +got):\n%s", diff)
			}
			rig.nothingLeft()
			if diff := cmp.Diff([]row{{Reason: string(reason), Ended: true}}, rig.rows(callSID)); diff != "" {
				t.Errorf("the session's row (-want +got):\n%s", diff)
			}
			if streamSession := rig.counted(db, callSID, 3, 1); streamSession.ToAgent.Bytes == 0 ||
				streamSession.ToExotel.Bytes == 0 {
				t.Errorf("its bytes are not in the row: %+v", streamSession)
			}
			if n, drained := rig.ends(reason), rig.ends(bridge.Drained); n != 1 || drained != 0 {
				t.Errorf("%v ends of %s are counted, and %v of drained", n, reason, drained)
			}
		})
	}
}

// counted returns a call's session once its row has these numbers of frames.
func (r *rig) counted(db *store.Dataplane, callSID string, toAgent, toExotel int64) (s store.StreamSession) {
	r.t.Helper()
	soon.Holds(r.t, "the frames are in the row", func() bool {
		list, _, err := db.StreamSessions(r.t.Context(), r.tenant.ID, store.StreamFilter{CallSID: callSID})
		if err != nil || len(list) != 1 {
			return false
		}
		s = list[0]
		return s.ToAgent.Frames == toAgent && s.ToExotel.Frames == toExotel
	})
	return s
}
