// Package outbox sends the mail that waits in the database.
//
// Mail for one event is sent at most once. A pod leases the row, and marks it as being sent just before the server
// receives the message. After that mark the mail is tried again only if the server is known to have refused it. A pod
// that dies before the mark delays mail. A pod that dies after the mark leaves the mail uncertain. Uncertain mail is
// not sent again: a person who waits for a code requests another one.
package outbox

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/caly-dev/caly/internal/mail"
	"github.com/caly-dev/caly/internal/store"
)

// Sender sends one message. *mail.Sender is one.
type Sender interface {
	Send(ctx context.Context, m mail.Message, e mail.Envelope, before func(context.Context) error) error
}

// checker is a Sender that can find out whether its server accepts mail, without sending any. *mail.Sender is one.
type checker interface {
	Check(ctx context.Context) error
}

// Store is where mail waits. *store.Dataplane is one.
type Store interface {
	ClaimMail(
		ctx context.Context,
		tenants []string,
		owner string,
		lease time.Duration,
		limit int,
	) (store.MailClaim, error)
	SendMail(ctx context.Context, m *store.QueuedMail, lease time.Duration) error
	FinishMail(ctx context.Context, m *store.QueuedMail, state store.MailState, reason string) error
	RetryMail(ctx context.Context, m *store.QueuedMail, after time.Duration, reason string) error
	PendingMail(ctx context.Context, tenants []string) (int, time.Time, error)
}

// Options of New.
type Options struct {
	Store Store
	// Sender; nil: the pod sends no mail and claims none.
	Sender Sender
	// Key is what mail is sealed under: keyring.Ring.Derive(keyring.PurposeMail). While it is empty nothing is claimed.
	Key func() []byte
	// Tenants are the ids of the tenants that the pod knows. Others' mail is not touched.
	Tenants func() []string
	// Owner names the pod, for people who look into the table.
	Owner string
	// Poll is how often to look for mail that nobody told of; 0: 5 s.
	Poll time.Duration
	// Lease is how long a pod may take over one message before others think it dead; 0: 3 minutes. Sending is broken off when two
	// thirds of it are over.
	Lease time.Duration
	// Registerer of the metrics; nil: none.
	Registerer prometheus.Registerer
	// Log; nil: none.
	Log *slog.Logger
}

// workers send at the same time.
const workers = 2

// Dispatcher sends mail. It is safe for concurrent use.
type Dispatcher struct {
	Options
	kick    chan struct{}
	metrics *metrics
	turns   turns
}

// New makes a dispatcher.
func New(o Options) *Dispatcher {
	if o.Poll <= 0 {
		o.Poll = 5 * time.Second
	}
	if o.Lease <= 0 {
		o.Lease = 3 * time.Minute
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Dispatcher{Options: o, kick: make(chan struct{}, 1), metrics: newMetrics(o.Registerer)}
}

// Enabled tells whether mail is sent at all. What needs mail is unavailable otherwise.
func (d *Dispatcher) Enabled() bool { return d.Sender != nil }

// Kick tells that mail has been written: it is looked for at once.
func (d *Dispatcher) Kick() {
	select {
	case d.kick <- struct{}{}:
	default: // somebody will look anyway
	}
}

// Run sends until ctx ends. What is being sent then is brought to its end first, within two thirds of the lease.
func (d *Dispatcher) Run(ctx context.Context) error {
	if !d.Enabled() {
		<-ctx.Done()
		return nil
	}
	var all sync.WaitGroup
	for range workers {
		all.Go(func() { d.work(ctx) })
	}
	all.Go(func() { d.watch(ctx) })
	if server, ok := d.Sender.(checker); ok {
		all.Go(func() { d.check(ctx, server) })
	}
	all.Wait()
	return nil
}

// work sends one message after the other.
func (d *Dispatcher) work(ctx context.Context) {
	for ctx.Err() == nil {
		queuedMail, ok := d.claim(ctx)
		if !ok {
			d.rest(ctx, d.Poll)
			continue
		}
		d.Kick() // there may be more: wake the other worker
		if serverInTrouble := d.send(ctx, &queuedMail); serverInTrouble {
			d.pause(ctx, time.Second) // do not run through all that waits
		}
	}
}

// rest until there may be something to do.
func (d *Dispatcher) rest(ctx context.Context, most time.Duration) {
	t := time.NewTimer(jittered(most))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-d.kick:
	case <-t.C:
	}
}

func (d *Dispatcher) pause(ctx context.Context, length time.Duration) {
	t := time.NewTimer(jittered(length))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// jittered is a length of time or up to half of it less, so that pods do not move in step.
func jittered(d time.Duration) time.Duration { return d - rand.N(d/2+1) } //nolint:gosec // spreads load

// claim leases one message: of a tenant whose turn it is, or else of any, with which a new round begins.
func (d *Dispatcher) claim(ctx context.Context) (store.QueuedMail, bool) {
	tenants := d.Tenants()
	if len(tenants) == 0 || len(d.Key()) == 0 {
		return store.QueuedMail{}, false
	}
	waiting := d.turns.waiting(tenants)
	if len(waiting) < len(tenants) {
		if queuedMail, ok := d.claimOf(ctx, waiting); ok || ctx.Err() != nil {
			return queuedMail, ok
		}
		d.turns.begin()
	}
	return d.claimOf(ctx, tenants)
}

// claimOf leases one message of some tenants.
func (d *Dispatcher) claimOf(ctx context.Context, tenants []string) (store.QueuedMail, bool) {
	if len(tenants) == 0 {
		return store.QueuedMail{}, false
	}
	mailClaim, err := d.Store.ClaimMail(ctx, tenants, d.Owner, d.Lease, 1)
	if err != nil {
		if ctx.Err() == nil {
			d.Log.Warn("mail cannot be looked for; it waits", "error", err)
		}
		return store.QueuedMail{}, false
	}
	for _, m := range mailClaim.Uncertain {
		d.Log.Warn("mail was being sent when its pod stopped: it may have arrived, and is not sent again",
			"tenant", m.Tenant,
			"template", m.Template,
		)
		d.metrics.count(m.Template, outcomeUncertain)
	}
	for _, m := range mailClaim.Expired {
		d.Log.Warn("mail could not be sent before it expired", "tenant", m.Tenant, "template", m.Template)
		d.metrics.count(m.Template, outcomeExpired)
	}
	if len(mailClaim.Mail) == 0 {
		return store.QueuedMail{}, false
	}
	d.turns.had(mailClaim.Mail[0].Tenant)
	return mailClaim.Mail[0], true
}

// checkEvery spaces the checks of the SMTP server. Without them a wrong password is found by the first person who waits
// for a code.
const checkEvery = 5 * time.Minute

// check signs in at the server, at once and then at intervals. The pod stays ready whatever comes of it: all pods have
// the same server, and what needs no mail goes on.
func (d *Dispatcher) check(ctx context.Context, server checker) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, time.Minute)
		err := server.Check(bounded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			d.Log.Warn("the SMTP server accepts no mail from here", "error", err)
		}
		d.metrics.server(err)
		d.pause(ctx, checkEvery)
	}
}

// watch keeps the gauges.
func (d *Dispatcher) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if tenants := d.Tenants(); len(tenants) > 0 {
			if n, oldest, err := d.Store.PendingMail(ctx, tenants); err == nil {
				d.metrics.waiting(n, oldest)
			}
		}
		d.pause(ctx, 2*d.Poll)
	}
}
