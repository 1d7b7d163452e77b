// Package replay applies stored events again, by what their Tenants say now.
package replay

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/ingest"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/tenantconfig"
	"github.com/caly-dev/caly/internal/tenantconfig/compile"
)

// What became of an event.
const (
	Applied   = "applied"
	Duplicate = "duplicate"
	Dead      = "dead"
	Failed    = "failed"
)

// Result is what became of an event.
type Result struct {
	ID      int64  `json:"id"`
	Tenant  string `json:"tenant,omitempty"`
	CallSID string `json:"callSID,omitempty"`
	// Result is applied, duplicate, dead or failed.
	Result  string `json:"result"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	DryRun  bool   `json:"dryRun,omitempty"`
}

// NotApplied reports whether the event is still not applied.
func (r Result) NotApplied() bool { return r.Result == Dead || r.Result == Failed }

// Unknown is the result of an id that no event has.
func Unknown(id int64) Result {
	return Result{ID: id, Result: Failed, Message: "there is no such event"}
}

// Replayer applies events again. It reads each Tenant once: use one for one request.
type Replayer struct {
	Store *store.Operator
	// Reader reads Tenants.
	Reader  client.Reader
	Sources recording.SourcePolicy
	// DryRun changes nothing.
	DryRun bool

	known map[string]foundTenant
}

// One applies a stored event again. A missing Tenant is a result; only an error of the database or the cluster is an
// error.
func (r *Replayer) One(ctx context.Context, kept store.KeptEvent) (Result, error) {
	result := Result{ID: kept.ID, Tenant: kept.Tenant, CallSID: kept.CallSID, DryRun: r.DryRun}
	if kept.Reason == "" && len(kept.Unread) == 0 {
		result.Result = Duplicate
		result.Message = "it was applied before"
		return result, nil
	}
	tenant, err := r.tenant(ctx, kept.Tenant)
	if err != nil {
		return result, err
	}
	if tenant.missing != "" {
		result.fail(kept, tenant.missing)
		return result, nil
	}
	event, err := ingest.Again(tenant.config, r.Sources, kept)
	if err != nil {
		result.fail(kept, err.Error())
		return result, nil
	}
	done, err := r.Store.Replay(ctx, kept.ID, event, r.DryRun)
	if event.CallSID != "" {
		result.CallSID = event.CallSID
	}
	result.settle(done)
	return result, err
}

// fail sets why the event could not be tried.
func (r *Result) fail(kept store.KeptEvent, why string) {
	r.Result = Failed
	r.Reason = kept.Reason
	r.Message = why
}

// settle sets result and message from what the store did.
func (r *Result) settle(done store.Replay) {
	switch done.Outcome {
	case store.Applied:
		r.Result = Applied
	case store.Duplicate:
		r.Result = Duplicate
		r.Reason = done.Reason
		r.Message = "it was applied before"
		if done.Reason != "" {
			r.Message += ", and stays as it is: this version cannot apply it again"
		}
	default:
		r.Result = Dead
		r.Reason = done.Reason
	}
}

// foundTenant is what applying an event again needs of its Tenant, or why the Tenant cannot be read.
type foundTenant struct {
	config  *tenantconfig.Tenant
	missing string
}

// tenant returns errors that are not about this Tenant alone.
func (r *Replayer) tenant(ctx context.Context, id string) (foundTenant, error) {
	if known, ok := r.known[id]; ok {
		return known, nil
	}
	namespace, name, _ := strings.Cut(id, "/")
	if namespace == "" || name == "" || strings.Contains(name, "/") {
		return foundTenant{missing: "its tenant's id cannot be a Tenant's"}, nil
	}
	if r.known == nil {
		r.known = map[string]foundTenant{}
	}
	var tenant v1alpha1.Tenant
	err := r.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &tenant)
	switch {
	case apierrors.IsNotFound(err):
		r.known[id] = foundTenant{missing: "its Tenant does not exist any more"}
	case apierrors.IsForbidden(err): // in a namespace that is not watched any more, say
		r.known[id] = foundTenant{missing: "its Tenant may not be read from here"}
	case err != nil:
		return foundTenant{}, fmt.Errorf("read the Tenant %s: %w", id, err)
	default:
		r.known[id] = foundTenant{config: compile.Tenant(&tenant)}
	}
	return r.known[id], nil
}

// ByID applies the stored event of an id again.
func (r *Replayer) ByID(ctx context.Context, id int64) (Result, error) {
	kept, err := r.Store.Event(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		result := Unknown(id)
		result.DryRun = r.DryRun
		return result, nil
	}
	if err != nil {
		return Result{}, err
	}
	return r.One(ctx, kept)
}
