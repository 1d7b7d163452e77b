// Package intake makes CallRecordings of new rows, as far as the bounds allow. What is over a bound is uploaded all the same,
// without a CallRecording.
package intake

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/caly-dev/caly/api/v1alpha1"
	v1alpha1ac "github.com/caly-dev/caly/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/caly-dev/caly/internal/exotel"
	"github.com/caly-dev/caly/internal/store"
)

// +kubebuilder:rbac:groups=voice.caly.dev,resources=callrecordings,verbs=get;list;watch;create;patch;delete

// fieldOwner of what intake applies.
const fieldOwner = client.FieldOwner("caly-intake")

// Bounds of one round, each second. A burst of one tenant does not keep the others waiting, nor do many tenants of one
// namespace, and the API server sees a bounded rate. The tenants of a namespace that are over a bound come first in the
// next round.
const (
	perRound          = 20 // CallRecordings of one tenant
	namespacePerRound = 40 // CallRecordings of one namespace
	tenantsPerRound   = 50 // of one namespace that are looked at
)

// uploadedSince is how long after its upload a recording can still get a CallRecording. A quick upload ends between
// two rounds, and many do while another operator takes over.
const uploadedSince = 10 * time.Minute

// Store is what intake needs of PostgreSQL.
type Store interface {
	Unviewed(ctx context.Context, tenant string, w store.Wanted) ([]store.Recording, error)
	MarkViewed(ctx context.Context, keys []store.RecordingKey) error
}

// Intake polls for new rows.
type Intake struct {
	Client client.Client
	Store  Store
	// MaxTotal and MaxPerTenant bound the CallRecordings in the cluster.
	MaxTotal, MaxPerTenant int

	rounds int
	last   map[string]string // by namespace: the Tenant that was looked at last
}

// NeedLeaderElection makes it run on the leader alone.
func (*Intake) NeedLeaderElection() bool { return true }

// Start polls each second until ctx is done.
func (i *Intake) Start(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := i.round(ctx); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "make CallRecordings of new rows; tried again in a second")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// round lets each namespace have its turn, each time beginning with another one. A tenant's error does not keep the
// others waiting.
func (i *Intake) round(ctx context.Context) error {
	var tenants v1alpha1.TenantList
	if err := i.Client.List(ctx, &tenants); err != nil {
		return err
	}
	var existing v1alpha1.CallRecordingList // from the cache, not the API server
	if err := i.Client.List(ctx, &existing, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	byNamespace := map[string][]*v1alpha1.Tenant{}
	for n := range tenants.Items {
		t := &tenants.Items[n]
		byNamespace[t.Namespace] = append(byNamespace[t.Namespace], t)
	}
	has := countsOf(existing.Items, len(byNamespace))
	names := slices.Sorted(maps.Keys(byNamespace))
	i.rounds++
	last := make(map[string]string, len(names))
	var errs []error
	for n := range names {
		name := names[(n+i.rounds)%len(names)]
		var err error
		last[name], err = i.namespace(ctx, byNamespace[name], i.last[name], has)
		errs = append(errs, err)
	}
	i.last = last
	return errors.Join(errs...)
}

// namespace lets the Tenants of one namespace have their turns, beginning after the last one of the round before. It
// returns the last one of this round.
func (i *Intake) namespace(ctx context.Context, list []*v1alpha1.Tenant, last string, has counts) (string, error) {
	slices.SortFunc(list, func(a, b *v1alpha1.Tenant) int {
		return cmp.Or(cmp.Compare(turn(a.Name, last), turn(b.Name, last)), strings.Compare(a.Name, b.Name))
	})
	left := namespacePerRound
	var errs []error
	for _, t := range list[:min(len(list), tenantsPerRound)] {
		wanted := i.wanted(t, has)
		if wanted.Limit = min(wanted.Limit, left); wanted.Limit <= 0 {
			continue
		}
		last = t.Name
		made, err := i.make(ctx, t, wanted)
		left -= made
		has.add(t, made)
		if err != nil {
			errs = append(errs, fmt.Errorf("tenant %s: %w", t.ID(), err))
		}
	}
	return last, errors.Join(errs...)
}

// turn orders the names after the last one before the others.
func turn(name, last string) int {
	if name > last {
		return 0
	}
	return 1
}

// wanted of a tenant. What is uploaded already gets a CallRecording while half of the places are free: the rest is for
// what people may have to do something about.
func (i *Intake) wanted(t *v1alpha1.Tenant, has counts) store.Wanted {
	recordingsSpec := t.Spec.Recordings
	if !t.DeletionTimestamp.IsZero() || !t.Compiled() || recordingsSpec.Resources == v1alpha1.ResourcesNone {
		return store.Wanted{}
	}
	own := has.perTenant[t.ID()]
	w := store.Wanted{
		Limit:  min(perRound, i.MaxPerTenant-own, has.room(t.Namespace, i.MaxTotal)),
		Queued: recordingsSpec.Resources != v1alpha1.ResourcesFailed,
		Failed: true,
	}
	if w.Queued &&
		(recordingsSpec.TTLAfterFinished == nil || recordingsSpec.TTLAfterFinished.Duration > 0) { // else it would be deleted at once
		w.Uploaded = min(i.MaxPerTenant/2-own, has.room(t.Namespace, i.MaxTotal/2))
		w.Since = uploadedSince
	}
	return w
}

// make applies a CallRecording for each row and then marks the rows. Ended in between, it applies the same again.
func (i *Intake) make(ctx context.Context, t *v1alpha1.Tenant, w store.Wanted) (made int, err error) {
	rows, err := i.Store.Unviewed(ctx, t.ID(), w)
	if err != nil {
		return 0, err
	}
	keys := make([]store.RecordingKey, 0, len(rows))
	for _, row := range rows {
		var ok bool
		if ok, err = i.apply(ctx, t, row); err != nil {
			break
		}
		if ok {
			made++
		}
		keys = append(keys, store.RecordingKey{Tenant: row.Tenant, ID: row.ID})
	}
	if len(keys) == 0 {
		return 0, err
	}
	return made, errors.Join(err, i.Store.MarkViewed(ctx, keys))
}

// apply reports false for a row that the API server will never take, such as one whose name somebody gave to a CallRecording
// of another recording: it must not keep those behind it waiting.
func (i *Intake) apply(ctx context.Context, t *v1alpha1.Tenant, row store.Recording) (bool, error) {
	err := i.Client.Apply(ctx, view(t, row), fieldOwner, client.ForceOwnership)
	if apierrors.IsInvalid(err) {
		log.FromContext(ctx).Error(err, "this recording gets no CallRecording and is uploaded without",
			"tenant", t.ID(),
			"recording", row.ID,
		)
		return false, nil
	}
	return err == nil, err
}

// view returns the CallRecording to apply for a row. Its name is a function of the row, so that a repeat finds the
// same object.
func view(t *v1alpha1.Tenant, row store.Recording) *v1alpha1ac.CallRecordingApplyConfiguration {
	return v1alpha1ac.CallRecording(Name(t.Name, row.ID), t.Namespace).
		WithLabels(map[string]string{v1alpha1.LabelTenant: t.Name, v1alpha1.LabelOrigin: v1alpha1.OriginIntake}).
		WithSpec(v1alpha1ac.CallRecordingSpec().WithTenantRef(v1alpha1ac.TenantReference().WithName(t.Name)).
			WithCallSID(
				row.CallSID,
			).WithSourceURL(exotel.WithoutQuery(row.SourceURL))) // a signature would admit every reader
}

// Name of the CallRecording that intake makes of a recording: the same every time.
func Name(tenant, recordingID string) string { return tenant + "-" + recordingID }
