package calldetails

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/caly-dev/caly/internal/exotel"
)

// Call is one call as Call Details tells of it. Empty fields were absent, null or empty in the answer: Exotel fills in
// end, duration and price some minutes after the call ended.
type Call struct {
	SID, ParentSID, AccountSID string
	CreatedAt, UpdatedAt       time.Time
	StartedAt, EndedAt         time.Time
	From, To                   string // as sent: national with a leading 0, E.164, or sip:...
	PhoneNumber                string // the ExoPhone
	// Status as sent, and State after normalisation.
	Status     string
	State      exotel.State
	Direction  string // inbound, outbound-dial, outbound-api
	Seconds    int    // of the whole call
	Price      string // a decimal number in the account's currency
	AnsweredBy string
	// RecordingURL asks for the account's credentials.
	RecordingURL string
	// RecordingURLs are all recordings: the call's own, which is RecordingURL, and those of its legs.
	RecordingURLs []string
	// RecordingSeconds is the length of the recording.
	RecordingSeconds int
	// PreSignedRecordingURL is there only in accounts that have it enabled, and holds for minutes.
	PreSignedRecordingURL string
	// Details is nil in answers to Calls: Exotel has it for single calls alone.
	Details *Details
	// Unread are the fields that could not be read. They are left out above.
	Unread []exotel.Unread
	// Raw is the record as Exotel sent it. It may hold a presigned URL.
	Raw json.RawMessage
}

// Details of the call's legs.
type Details struct {
	ConversationSeconds int // while both legs talked
	// Leg2 is the state of the second leg, which was called.
	Leg2 exotel.State
	Legs []exotel.Leg
}

// Outcome is what became of the call. An inbound call's own status is completed even if nobody took it: there, the
// second leg tells.
func (c Call) Outcome() exotel.State {
	if c.Direction == "inbound" && c.Details != nil && c.Details.Leg2.Ended() {
		return c.Details.Leg2
	}
	return c.State
}

// Settled tells whether the call has ended and Exotel has filled in its end. Before that its other fields may still
// change.
func (c Call) Settled() bool { return c.Over() && !c.EndedAt.IsZero() }

// Over tells whether the call has ended.
func (c Call) Over() bool { return c.State.Ended() }

// Uses tells whether the call went over a number, given in E.164.
func (c Call) Uses(number string) bool { return slices.Contains(exotel.E164(c.PhoneNumber), number) }
