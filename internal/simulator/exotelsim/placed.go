package exotelsim

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// PlacedCall is a call of an account as Call Details tells of it.
type PlacedCall struct {
	// Call gives id, numbers, recording, start and end. Without an end Exotel has not filled it in yet, nor what follows
	// from it.
	Call
	// Created is when Exotel made the record, Updated when it last changed it; zero means the start and the end.
	Created, Updated time.Time
	// PhoneNumber is the ExoPhone.
	PhoneNumber string
	// Status of the call, completed if empty. Calls that are queued, ringing or in-progress are not listed, as with Exotel.
	Status string
	// Direction is outbound-api if empty.
	Direction string
	// Price is a decimal number, none if empty.
	Price string
	// Leg1Status and Leg2Status are completed if empty.
	Leg1Status, Leg2Status string
	// ConversationSeconds is how long both talked.
	ConversationSeconds int
}

func (c PlacedCall) withDefaults() PlacedCall {
	if c.Created.IsZero() {
		c.Created = c.Started
	}
	if c.Updated.IsZero() {
		c.Updated = c.Created
		if !c.Ended.IsZero() {
			c.Updated = c.Ended
		}
	}
	c.Status = cmp.Or(c.Status, "completed")
	c.Direction = cmp.Or(c.Direction, "outbound-api")
	c.Leg1Status = cmp.Or(c.Leg1Status, "completed")
	c.Leg2Status = cmp.Or(c.Leg2Status, "completed")
	return c
}

func (c PlacedCall) ongoing() bool {
	return slices.Contains([]string{"queued", "ringing", "in-progress"}, c.Status)
}

// seconds that the call lasted; false if it has no end yet.
func (c PlacedCall) seconds() (int, bool) {
	return int(c.Ended.Sub(c.Started).Seconds()), !c.Ended.IsZero()
}

// Place adds calls to an account, for Call Details to tell of. A call with the id of another replaces it.
func (s *Server) Place(account string, calls ...PlacedCall) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.placed[account] == nil {
		s.placed[account] = map[string]PlacedCall{}
	}
	for _, c := range calls {
		s.placed[account][c.SID] = c.withDefaults()
	}
}

func (s *Server) call(account, sid string) (PlacedCall, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	placedCall, ok := s.placed[account][sid]
	return placedCall, ok
}

// ended lists an account's calls that are over, oldest first; those of the same second by id.
func (s *Server) ended(account string) []PlacedCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []PlacedCall
	for _, c := range s.placed[account] {
		if !c.ongoing() {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b PlacedCall) int {
		return cmp.Or(cmp.Compare(a.Created.Unix(), b.Created.Unix()), cmp.Compare(a.SID, b.SID))
	})
	return list
}

// record is the call in Exotel's fields and order. What is not known is null.
func (s *Server) record(account string, c PlacedCall, q DetailQuirks) object {
	end := any(nil)
	duration := any(nil)
	price := any(nil)
	if q.EpochEnd {
		end = "1970-01-01 05:30:00"
	}
	if n, ok := c.seconds(); ok {
		end = s.clock(c.Ended)
		duration = q.number(strconv.Itoa(n))
		if c.Price != "" {
			price = q.number(c.Price)
		}
	}
	o := object{
		{
			"Sid",
			c.SID,
		},
		{"ParentCallSid", nil},
		{"DateCreated", s.clock(c.Created)},
		{"DateUpdated", s.clock(c.Updated)},
		{
			"AccountSid",
			account,
		},
		{"To", c.To},
		{"From", c.From},
		{"PhoneNumberSid", c.PhoneNumber},
		{"Status", c.Status},
		{
			"StartTime",
			s.clock(c.Started),
		},
		{"EndTime", end},
		{"Duration", duration},
		{"Price", price},
		{"Direction", c.Direction},
		{
			"AnsweredBy",
			nil,
		},
		{"ForwardedFrom", nil},
		{"CallerName", nil},
		{"Uri", accountsPrefix + account + "/Calls.json/" + c.SID},
	}
	if c.RecordingURL == "" {
		return append(o, member{"RecordingUrl", nil})
	}
	return append(o, member{"RecordingUrl", c.RecordingURL})
}

// details of the legs, which Exotel has for single calls alone.
func (c PlacedCall) details(q DetailQuirks) object {
	total, _ := c.seconds()
	legs := list{
		item:    "Leg",
		wrapped: true,
		objects: []object{
			{{"Id", number("1")}, {"OnCallDuration", number(strconv.Itoa(total))}},
			{{"Id", number("2")}, {"OnCallDuration", number(strconv.Itoa(c.ConversationSeconds))}},
		},
	}
	talk := any(number(strconv.Itoa(c.ConversationSeconds)))
	if q.Swapped {
		talk = strconv.Itoa(c.ConversationSeconds)
	}
	return object{
		{"ConversationDuration", talk},
		{"Leg1Status", c.Leg1Status},
		{"Leg2Status", c.Leg2Status},
		{"Legs", legs},
	}
}

// clock writes a time as Exotel does: the account's wall clock, without a zone.
func (s *Server) clock(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.In(s.o.Zone).Format(wallClock)
}
