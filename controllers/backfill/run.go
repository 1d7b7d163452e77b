package backfill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel/calldetails"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

const (
	// settleAfter is how long after its start a call may be without an end, and that nobody asks for it.
	settleAfter = store.SettleAfter
	// suspectFor is how long the end of a call is asked about, if no event reports the end.
	suspectFor = store.SuspectFor
	// pageSize is Exotel's, and how many calls are looked up and applied at once.
	pageSize = 100
)

var (
	// errBounds ends a run that has more to look at than one run may.
	errBounds = errors.New("the run ended at its bounds")
	// errStopped ends the run of a Tenant that is not to be looked after any more.
	errStopped = errors.New("the Tenant was suspended, deleted or is not ready any more")
)

// run is one look at a Tenant's calls.
type run struct {
	r       *Reconciler
	tenant  *v1alpha1.Tenant
	config  *tenantconfig.Tenant
	client  *calldetails.Client
	owner   owner
	count   *counter
	limits  Limits
	now     time.Time // a whole second, as all of Exotel's times
	from    time.Time
	suspect store.Suspect // how far it got among the suspects

	// reached is up to when calls were created that were looked at.
	reached        time.Time
	checked, found int
	partial        int // of found, without some of its fields

	// left are records and calls that were left out; why is the reason for the first of them.
	left int
	why  error
}

// leaveOut counts what cannot be used, since a line for each would be as many lines as the API wants.
func (n *run) leaveOut(err error) {
	if n.left++; n.left == 1 {
		n.why = err
	}
}

// tellLeftOut logs what was left out, in one line for a run.
func (n *run) tellLeftOut(ctx context.Context) {
	if n.left > 0 {
		log.FromContext(ctx).Info("calls that Exotel listed are left out", "tenant", n.tenant.ID(), "calls", n.left,
			"first", n.why.Error())
	}
}

// do looks at the suspects and then at all calls of the window. An error other than errBounds and errStopped is Exotel's or the
// database's; what was found before it is applied.
func (n *run) do(ctx context.Context) error {
	n.reached = n.from
	if err := n.suspects(ctx); err != nil {
		return err
	}
	for _, w := range windows(n.from, n.now) {
		if err := n.list(ctx, w); err != nil {
			return err
		}
		n.reached = w.to
	}
	return nil
}

// suspects asks about calls whose end no webhook reported, oldest first. Each run goes on where the last one stopped.
// Otherwise calls that Exotel does not know would keep the others waiting.
func (n *run) suspects(ctx context.Context) error {
	list, err := n.r.Store.Suspects(ctx, n.tenant.ID(), store.SuspectQuery{
		From:  n.now.Add(-suspectFor),
		To:    n.now.Add(-settleAfter),
		After: n.suspect,
		Limit: n.limits.Suspects,
	})
	if err != nil {
		return err
	}
	var found []store.Event
	for _, s := range list {
		n.suspect = s
		n.checked++
		call, err := n.ask(ctx, s.CallSID)
		if err != nil {
			return errors.Join(err, n.apply(ctx, found))
		}
		found = n.add(found, call)
	}
	if len(list) < n.limits.Suspects {
		n.suspect = store.Suspect{}
	}
	return n.apply(ctx, found)
}

// ask asks about one call, and returns nil where Exotel has nothing that can be applied yet.
func (n *run) ask(ctx context.Context, sid string) (*calldetails.Call, error) {
	if n.count.n.Load() >= int64(n.limits.Requests) {
		return nil, errBounds
	}
	call, err := n.client.Call(ctx, sid)
	switch {
	case errors.Is(err, calldetails.ErrNotFound), errors.Is(err, calldetails.ErrUnreadable):
		log.FromContext(ctx).V(1).Info("Exotel does not tell of a call; asked again in the next run",
			"tenant", n.tenant.ID(),
			"call", sid,
			"why", err.Error(),
		)
		return nil, nil
	case err != nil:
		return nil, err
	case !call.Settled():
		return nil, nil
	}
	return &call, nil
}

// list looks at the calls that were created in a window, page by page.
func (n *run) list(ctx context.Context, w window) error {
	page := make([]calldetails.Call, 0, pageSize)
	for c, err := range n.client.Calls(ctx, w.filter(location(n.tenant))) {
		if err != nil {
			if broken(err) {
				n.leaveOut(err)
				if n.checked++; n.checked >= n.limits.Calls {
					return errors.Join(errBounds, n.take(ctx, page))
				}
				continue
			}
			return errors.Join(err, n.take(ctx, page))
		}
		page = append(page, c)
		if len(page) < pageSize {
			continue
		}
		if err := n.take(ctx, page); err != nil {
			return err
		}
		page = page[:0]
	}
	return n.take(ctx, page)
}

// broken tells of an error that is about one record of a listing.
func broken(err error) bool {
	var e *calldetails.Error
	return errors.As(err, &e) && errors.Is(e.Kind, calldetails.ErrUnreadable) && e.Status == 0
}

// take applies what is missing of some calls, oldest first. It is reached only once they are applied.
func (n *run) take(ctx context.Context, calls []calldetails.Call) error {
	if len(calls) == 0 {
		return nil
	}
	sids := make([]string, len(calls))
	for i := range calls {
		sids[i] = calls[i].SID
	}
	known, err := n.r.Store.KnownCalls(ctx, n.tenant.ID(), sids)
	if err != nil {
		return err
	}
	done, found, ended := n.collect(ctx, calls, known)
	if err := n.apply(ctx, found); err != nil {
		return err
	}
	for _, c := range calls[:done] {
		if c.CreatedAt.After(n.reached) {
			n.reached = c.CreatedAt
		}
	}
	return ended
}

// collect makes events of the calls that are incomplete, until an error ends it. done is the number of calls that it
// looked at.
func (n *run) collect(
	ctx context.Context,
	calls []calldetails.Call,
	known map[string]store.Known,
) (done int, found []store.Event, err error) {
	for i := range calls {
		if n.checked >= n.limits.Calls {
			return i, found, errBounds
		}
		k, there := known[calls[i].SID]
		if n.missing(&calls[i], k, there) {
			call, err := n.ask(ctx, calls[i].SID)
			if err != nil {
				return i, found, err
			}
			found = n.add(found, call)
		}
		n.checked++
	}
	return len(calls), found, nil
}

// missing tells whether something of a listed call is missing here. The listing has no legs, and perhaps no end: the call is then
// asked for by itself.
func (n *run) missing(c *calldetails.Call, k store.Known, known bool) bool {
	complete := k.Terminal && k.Ended && hasRecordings(k, c)
	switch {
	case complete, k.Dead, !c.Over(), !n.owner.owns(c, known):
		return false
	case c.EndedAt.IsZero():
		return n.now.Sub(c.CreatedAt) >= settleAfter // it may have ended just now: a later run takes it
	}
	return true
}

// hasRecordings reports whether every recording of a call is known, a rejected one included.
func hasRecordings(k store.Known, c *calldetails.Call) bool {
	for _, u := range c.RecordingURLs {
		if !slices.Contains(k.RecordingIDs, recording.ID(c.SID, u)) {
			return len(k.RecordingIDs) >= store.MaxRecordings
		}
	}
	return true
}

// failed puts an error of the run into words for its condition.
func failed(err error) string {
	return fmt.Sprintf(
		"%v. Webhooks are taken as ever; only calls whose webhooks were lost stay missing meanwhile", err,
	)
}
