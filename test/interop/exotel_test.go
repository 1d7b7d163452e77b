//go:build interop

package interop

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/caly-dev/caly/internal/simulator/agentsim"
	"github.com/caly-dev/caly/internal/simulator/exotelsim"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// talk is a call's audio in pieces of 20 ms, a longer one, and the largest that Exotel takes: frames with lengths in 7, 16 and 64 bits,
// the acknowledgements included.
func talk() [][]byte {
	noise := exotelsim.Noise(60_000)
	return append(
		slices.Collect(slices.Chunk(noise[:25*320], 320)), noise[8000:8002], noise[9000:12_200], noise[12_000:112_000],
	)
}

// TestExotelsSide has a library's client in the place of Exotel, in front of an echo: every byte comes back, and each end is told to both
// sides and the session.
func TestExotelsSide(t *testing.T) {
	echo, err := agentsim.NewServer(agentsim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(echo.Close)
	rig := newRig(t)
	rig.bridge(echo.URL(), "exotel")
	ended := func(code int, reason string) clientReport { return clientReport{Code: code, Reason: reason} }
	for name, tc := range map[string]struct {
		change    func(*options)
		want      clientReport
		wantAgent int
		wantRow   string
		pongs     bool // the client's pings are answered
	}{
		"as Exotel does":        {change: func(*options) {}, want: ended(1000, "call_ended")},
		"JSON in binary frames": {change: func(o *options) { o.Binary = true }, want: ended(1000, "call_ended")},
		"in parts":              {change: func(o *options) { o.Parts = 3 }, want: ended(1000, "call_ended")},
		"in many parts and pings": {
			change: func(o *options) {
				o.Parts = 7
				o.Pings = true
			},
			want:  ended(1000, "call_ended"),
			pongs: true,
		},
		"binary parts": {
			change: func(o *options) {
				o.Parts = 2
				o.Binary = true
			},
			want: ended(1000, "call_ended"),
		},
		"pings": {
			change: func(o *options) { o.Pings = true },
			want:   ended(1000, "call_ended"),
			pongs:  true,
		},
		"compression offered": {change: func(o *options) { o.Deflate = true }, want: ended(1000, "call_ended")},
		"closes with 1000": {
			change: func(o *options) {
				o.Code = 1000
				o.Reason = "bye"
			},
			want: ended(1000, ""),
		},
		"closes with 1001": {change: func(o *options) { o.Code = 1001 }, want: ended(1001, "")},
		"closes with its own": {
			change: func(o *options) {
				o.Code = 4321
				o.Reason = "so long, ünd fare well"
			},
			want: ended(4321, ""),
		},
		"fell over": {
			change:    func(o *options) { o.Code = 1011 },
			want:      ended(1011, ""),
			wantAgent: 1001,
			wantRow:   "exotel_lost",
		},
		"vanishes": {
			change:    func(o *options) { o.Vanish = true },
			want:      ended(1006, ""),
			wantAgent: 1001,
			wantRow:   "exotel_lost",
		},
	} {
		for _, l := range libraries(t) {
			t.Run(name+"/"+l.name, func(t *testing.T) {
				pieces := talk()
				if tc.pongs {
					pieces = pieces[len(pieces)-8:] // the endpoint takes 100 control frames in 10 s
				}
				callSID, o := rig.newCall(pieces)
				tc.change(&o)
				got := l.call(t, o)
				if echoed := media(t, got.Messages); !same(pieces, echoed) {
					t.Errorf("%d pieces came back for %d, or other ones", len(echoed), len(pieces))
				}
				if sent := len(o.Messages); tc.pongs && got.Pongs < sent {
					t.Errorf("%d pongs for pings with %d messages", got.Pongs, sent)
				}
				got.Messages = nil
				got.Pongs = 0
				if tc.want.Reason == "" {
					got.Reason = "" // its own, or none
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("the client (-want +got):\n%s", diff)
				}
				wantRow := tc.wantRow
				wantAgent := tc.wantAgent
				if wantRow == "" {
					wantRow = "call_ended"
					wantAgent = 1000
				}
				if diff := cmp.Diff([]row{{wantRow, true}}, rig.ended(t, callSID)); diff != "" {
					t.Errorf("the session (-want +got):\n%s", diff)
				}
				eventually.Within(patience).Holds(t, "the agent's call ends", func() bool { return echo.Live() == 0 })
				calls := echo.Calls()
				if last := calls[len(calls)-1]; last.Start.CallID != callSID || last.Code != wantAgent ||
					last.Problem != "" ||
					last.Pieces != len(pieces) {
					t.Errorf("the agent saw %+v, want %d", last, wantAgent)
				}
			})
		}
	}
}
