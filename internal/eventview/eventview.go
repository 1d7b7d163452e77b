// Package eventview is a stored event as people see it, in the command line and in the admin API: without secrets, and with
// what to do about it.
package eventview

import (
	"fmt"
	"strings"
	"time"

	"github.com/caly-dev/caly/internal/store"
)

// Event is an event without its request.
type Event struct {
	ID         int64     `json:"id"`
	ReceivedAt time.Time `json:"receivedAt"`
	Tenant     string    `json:"tenant"`
	CallSID    string    `json:"callSID"`
	Kind       string    `json:"kind"`
	EventType  string    `json:"eventType,omitempty"`
	Source     string    `json:"source"`
	DeadReason string    `json:"deadReason,omitempty"`
	// Unread are the fields of a partial event that were left out.
	Unread []store.Unread `json:"unread,omitempty"`
}

// Of returns an event without its request.
func Of(e store.KeptEvent) Event {
	return Event{
		ID:         e.ID,
		ReceivedAt: e.ReceivedAt.UTC(),
		Tenant:     e.Tenant,
		CallSID:    e.CallSID,
		Kind:       e.Kind,
		EventType:  e.EventType,
		Source:     e.Source,
		DeadReason: e.Reason,
		Unread:     e.Unread,
	}
}

// Why returns why an event is dead, or which fields of a partial one were left out and why.
func (v Event) Why() string {
	if v.DeadReason != "" {
		return v.DeadReason
	}
	fields := make([]string, len(v.Unread))
	for i, u := range v.Unread {
		fields[i] = u.Field + ": " + u.Reason
		if u.Value != "" {
			fields[i] += fmt.Sprintf(" %q", u.Value)
		}
	}
	return strings.Join(fields, ", ")
}

// KindAndType returns the kind, and the type of the event if it has one.
func (v Event) KindAndType() string {
	if v.EventType == "" {
		return v.Kind
	}
	return v.Kind + "/" + v.EventType
}
