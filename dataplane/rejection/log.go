// Package rejection logs rejected requests, a bounded number for each reason: any client can make as many as it likes.
package rejection

import (
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Bounds of what is logged.
const (
	// maxLines is the maximum number of lines for a reason in a window.
	maxLines = 10
	// window is the time that maxLines are for. It begins with the first rejection.
	window = time.Minute
	// maxTenant bounds the tenant in a line, which a client may have chosen, in bytes.
	maxTenant = 128
)

// Log logs rejections. It is safe for concurrent use.
type Log struct {
	message string
	log     *slog.Logger
	mu      sync.Mutex
	reasons map[string]*count
}

// count is what was rejected for a reason in a window.
type count struct {
	logged, omitted int
}

// New returns a Log whose lines have the message. The reasons of its rejections must be a closed set.
func New(log *slog.Logger, message string) *Log {
	return &Log{message: message, log: log, reasons: map[string]*count{}}
}

// Rejection is a rejected request.
type Rejection struct {
	// RequestID is the id that the answer has.
	RequestID string
	// Tenant that the request names, whether there is one or not; empty without one.
	Tenant string
	// Address of the client, through trusted proxies.
	Address netip.Addr
	// Route is the pattern of the path.
	Route string
	// Reason is one of a closed set.
	Reason string
}

// Add logs a rejection, unless a window has as many for its reason as it may have. It counts those that are left out,
// and logs their number at the end of the window.
func (l *Log) Add(r Rejection) {
	if !l.admit(r.Reason) {
		return
	}
	address := ""
	if r.Address.IsValid() {
		address = r.Address.String()
	}
	l.log.Warn(l.message, //nolint:sloglint // a constant of the caller of New
		"request", r.RequestID,
		"tenant", r.Tenant[:min(len(r.Tenant), maxTenant)],
		"address", address,
		"route", r.Route,
		"reason", r.Reason,
	)
}

// admit reports whether a line may be logged, and counts it.
func (l *Log) admit(reason string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.reasons[reason]
	if c == nil {
		c = &count{}
		l.reasons[reason] = c
		time.AfterFunc(window, func() { l.end(reason) })
	}
	if c.logged == maxLines {
		c.omitted++
		return false
	}
	c.logged++
	return true
}

// end ends the window of a reason.
func (l *Log) end(reason string) {
	l.mu.Lock()
	omitted := l.reasons[reason].omitted
	delete(l.reasons, reason)
	l.mu.Unlock()
	if omitted > 0 {
		l.log.Warn(
			l.message+": more of them were not logged", //nolint:sloglint // as above
			"reason", reason,
			"omitted", omitted,
			"within", window,
		)
	}
}
