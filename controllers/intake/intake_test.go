package intake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	v1alpha1ac "github.com/caly-dev/caly/api/v1alpha1/applyconfiguration/api/v1alpha1"
	"github.com/caly-dev/caly/internal/recording"
	"github.com/caly-dev/caly/internal/store"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

func TestBounds(t *testing.T) {
	tests := map[string]struct {
		rows                   map[string]int
		maxTotal, maxPerTenant int
		want                   []map[string]int // after each round
	}{
		"a round's": {
			map[string]int{"a": 45},
			1000,
			1000,
			[]map[string]int{{"a": 20}, {"a": 40}, {"a": 45}, {"a": 45}},
		},
		"a tenant's": {map[string]int{"a": 45, "b": 3}, 1000, 25,
			[]map[string]int{{"a": 20, "b": 3}, {"a": 25, "b": 3}, {"a": 25, "b": 3}}},
		"a namespace's": {map[string]int{"a": 12, "b": 12}, 20, 1000,
			[]map[string]int{{"a": 12, "b": 3}, {"a": 12, "b": 3}}},
		"none": {map[string]int{"a": 12}, 0, 1000, []map[string]int{{}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			rig.in.MaxTotal = tt.maxTotal
			rig.in.MaxPerTenant = tt.maxPerTenant
			for tenant, n := range tt.rows {
				rig.tenant(t, tenant)
				rig.enqueueMany(t, rig.ns+"/"+tenant, n)
			}
			for i, want := range tt.want {
				rig.round(t)
				got := map[string]int{}
				for tenant := range tt.rows {
					if n := len(rig.views(t, tenant)); n > 0 {
						got[tenant] = n
					}
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("CallRecordings after round %d (-want +got):\n%s", i+1, diff)
				}
			}
		})
	}
}

// Where the total is used up, what becomes free goes to each tenant in turn, not to the first of the list for ever.
func TestTenantsTakeTurns(t *testing.T) {
	rig := newRig(t)
	rig.in.MaxTotal = 2 // and so 2 of a namespace
	names := []string{"a", "b", "c"}
	for _, name := range names {
		rig.tenant(t, name)
		rig.enqueueMany(t, rig.ns+"/"+name, 10)
	}
	got := map[string]int{}
	for range 6 {
		rig.round(t)
		for _, name := range names {
			for _, o := range rig.views(t, name) {
				got[name]++
				if err := rig.Delete(t.Context(), &o); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if diff := cmp.Diff(map[string]int{"a": 4, "b": 4, "c": 4}, got); diff != "" {
		t.Errorf("CallRecordings in six rounds (-want +got):\n%s", diff)
	}
}

func TestResources(t *testing.T) {
	tests := map[string]struct {
		change func(*v1alpha1.Tenant)
		want   []string // of the states that the recordings are in
	}{
		"by default": {func(*v1alpha1.Tenant) {}, []string{"failed", "leased", "pending", "uploaded"}},
		"All": {func(o *v1alpha1.Tenant) { o.Spec.Recordings.Resources = v1alpha1.ResourcesAll },
			[]string{"failed", "leased", "pending", "uploaded"}},
		"All, for a moment": {
			func(o *v1alpha1.Tenant) { o.Spec.Recordings.TTLAfterFinished = &metav1.Duration{} },
			[]string{"failed", "leased", "pending"},
		},
		"Failed": {
			func(o *v1alpha1.Tenant) { o.Spec.Recordings.Resources = v1alpha1.ResourcesFailed },
			[]string{"failed"},
		},
		"None":          {func(o *v1alpha1.Tenant) { o.Spec.Recordings.Resources = v1alpha1.ResourcesNone }, nil},
		"being deleted": {func(o *v1alpha1.Tenant) { o.Finalizers = []string{v1alpha1.FinalizerTenant} }, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			tenant := rig.tenant(t, "support", tt.change)
			if len(tenant.Finalizers) > 0 {
				if err := rig.Delete(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
			}
			state := rig.oneOfEach(t, tenant.ID())
			rig.round(t)
			var got []string
			for _, o := range rig.views(t, "support") {
				got = append(got, state[o.Spec.CallSID])
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("CallRecordings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUploadedLeaveRoom : what was uploaded before a round came gets its CallRecordings, and at most half of the room; what is pending comes first.
func TestUploadedLeaveRoom(t *testing.T) {
	tests := map[string]struct {
		uploaded, pending      int
		maxTotal, maxPerTenant int
		want                   []map[string]int // CallRecordings by the state of their recordings, after each round
	}{
		"room for all": {5, 3, 1000, 1000, []map[string]int{{"pending": 3, "uploaded": 5}}},
		"more than a round": {15, 15, 1000, 1000, []map[string]int{{
			"pending":  15,
			"uploaded": 5,
		}, {
			"pending":  15,
			"uploaded": 15,
		}}},
		"a tenant's bound": {15, 3, 1000, 20, []map[string]int{{
			"pending":  3,
			"uploaded": 10,
		}, {
			"pending":  3,
			"uploaded": 10,
		}}},
		"a namespace's": {15, 3, 26, 1000, []map[string]int{
			{"pending": 3, "uploaded": 10},
			{"pending": 3, "uploaded": 10},
		}},
		"half is taken": {15, 11, 1000, 20, []map[string]int{
			{"pending": 11, "uploaded": 9},
			{"pending": 11, "uploaded": 9},
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			rig.in.MaxTotal = tt.maxTotal
			rig.in.MaxPerTenant = tt.maxPerTenant
			tenant := rig.tenant(t, "support")
			pods := rig.uploads(t, tenant.ID())
			for i := range tt.uploaded {
				id := rig.enqueue(t, tenant.ID(), fmt.Sprintf("uploaded-%d", i))
				if _, err := pods.Claim(t.Context(), "pod", 1, time.Minute); err != nil {
					t.Fatal(err)
				}
				if err := pods.Complete(t.Context(), "pod", id, store.Result{
					Bucket: "b",
					Key:    "k",
					SHA256: strings.Repeat("a", 64),
				}); err != nil {
					t.Fatal(err)
				}
			}
			for i := range tt.pending {
				rig.enqueue(t, tenant.ID(), fmt.Sprintf("pending-%d", i))
			}
			for i, want := range tt.want {
				rig.round(t)
				got := map[string]int{}
				for _, o := range rig.views(t, "support") {
					state, _, _ := strings.Cut(o.Spec.CallSID, "-")
					got[state]++
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("after round %d (-want +got):\n%s", i+1, diff)
				}
			}
		})
	}
}

// oneOfEach makes a recording in each state and returns the states by call.
func (r *rig) oneOfEach(t *testing.T, tenant string) map[string]string {
	t.Helper()
	pods := r.uploads(t, tenant)
	state := map[string]string{}
	for _, s := range []string{"uploaded", "failed", "leased", "pending"} { // each claim finds the one that is pending
		id := r.enqueue(t, tenant, "call-"+s)
		state["call-"+s] = s
		if s == "pending" {
			break
		}
		if _, err := pods.Claim(t.Context(), "pod", 1, time.Minute); err != nil {
			t.Fatal(err)
		}
		var err error
		switch s {
		case "uploaded":
			err = pods.Complete(t.Context(), "pod", id, store.Result{
				Bucket: "b",
				Key:    "k",
				SHA256: strings.Repeat("a", 64),
			})
		case "failed":
			err = pods.Fail(t.Context(), "pod", id, "gone", "the source says 410")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return state
}

func TestView(t *testing.T) {
	rig := newRig(t)
	longest := strings.Repeat("a", 38) + ".b" // the longest name a Tenant may have
	id := rig.enqueue(t, rig.ns+"/"+longest, "call-1")
	rig.tenant(t, longest)
	rig.round(t)
	got, ok := rig.views(t, longest)[longest+"-"+id]
	if !ok {
		t.Fatalf("made %v, want %s-%s", slices.Collect(maps.Keys(rig.views(t, longest))), longest, id)
	}
	want := v1alpha1.CallRecordingSpec{
		TenantRef: v1alpha1.TenantReference{Name: longest},
		CallSID:   "call-1",
		SourceURL: "https://recordings.exotel.com/call-1.mp3",
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
	labels := map[string]string{v1alpha1.LabelTenant: longest, v1alpha1.LabelOrigin: v1alpha1.OriginIntake}
	if diff := cmp.Diff(labels, got.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

// TestViewHasNoSignature queues a recording with a signed URL. Its CallRecording has the URL without the
// signature, and shows the same recording; the row keeps the whole URL, which the upload needs.
func TestViewHasNoSignature(t *testing.T) {
	rig := newRig(t)
	tenant := rig.tenant(t, "support")
	const plain = "https://s3-ap-south-1.amazonaws.com/exotelrecordings/call-1.mp3"
	const signed = plain + "?X-Amz-Credential=AKIA&X-Amz-Signature=SECRET#SECRET"
	id := recording.ID("call-1", signed)
	if _, err := rig.db.Enqueue(t.Context(), tenant.ID(), "call-1", store.NewRecording{
		ID:        id,
		SourceURL: signed,
	}); err != nil {
		t.Fatal(err)
	}
	rig.round(t)
	got := rig.views(t, "support")["support-"+id]
	if got.Spec.SourceURL != plain || recording.ID(got.Spec.CallSID, got.Spec.SourceURL) != id {
		t.Errorf("the CallRecording has %q, want %q", got.Spec.SourceURL, plain)
	}
	if text, err := json.Marshal(got); err != nil || strings.Contains(string(text), "SECRET") {
		t.Errorf("%s, %v; want no part of the signature", text, err)
	}
	key := store.RecordingKey{Tenant: tenant.ID(), ID: id}
	if rows, err := rig.db.Recordings(
		t.Context(),
		[]store.RecordingKey{key},
	); err != nil ||
		rows[key].SourceURL != signed {
		t.Errorf("the row has %q, %v; want %q", rows[key].SourceURL, err, signed)
	}
}

// failingStore fails to mark rows as often as it is told to: the operator ends between its two steps.
type failingStore struct {
	Store
	failures int
}

func (s *failingStore) MarkViewed(ctx context.Context, keys []store.RecordingKey) error {
	if s.failures > 0 {
		s.failures--
		return fmt.Errorf("%w: gone in the middle", store.ErrUnavailable)
	}
	return s.Store.MarkViewed(ctx, keys)
}

// TestEndedBetweenApplyAndMark applies the same CallRecordings again. The API server stores a new object without its
// status, and the default of the status with the next write, so the resource version alone may change, once.
func TestEndedBetweenApplyAndMark(t *testing.T) {
	rig := newRig(t)
	tenant := rig.tenant(t, "support")
	rig.enqueueMany(t, tenant.ID(), 5)
	rig.in.Store = &failingStore{Store: rig.db, failures: 1}
	if err := rig.in.round(
		t.Context(),
	); !errors.Is(err, store.ErrUnavailable) ||
		!strings.Contains(err.Error(), tenant.ID()) {
		t.Fatalf("the round that was cut off: %v, want one that names %s", err, tenant.ID())
	}
	first := rig.views(t, "support")
	rig.round(t)
	ignoreVersion := cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion")
	if diff := cmp.Diff(first, rig.views(t, "support"), ignoreVersion); diff != "" || len(first) != 5 {
		t.Errorf("the same five again (-first +second):\n%s", diff)
	}
	if n := rig.unviewed(t, tenant.ID()); n != 0 {
		t.Errorf("%d rows are still to be looked at", n)
	}
}

func TestDeletedByAPersonIsNotMadeAgain(t *testing.T) {
	rig := newRig(t)
	tenant := rig.tenant(t, "support")
	id := rig.enqueue(t, tenant.ID(), "call-1")
	rig.round(t)
	callRecording := rig.views(t, "support")[Name("support", id)]
	if err := rig.Delete(t.Context(), &callRecording); err != nil {
		t.Fatal(err)
	}
	rig.round(t)
	if got := rig.views(t, "support"); len(got) != 0 {
		t.Errorf("made again: %v", slices.Collect(maps.Keys(got)))
	}
	// Nor once it fails, though a tenant with Failed would see it then for the first time.
	pods := rig.uploads(t, tenant.ID())
	if _, err := pods.Claim(t.Context(), "pod", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := pods.Fail(t.Context(), "pod", id, "gone", "410"); err != nil {
		t.Fatal(err)
	}
	rig.round(t)
	if got := rig.views(t, "support"); len(got) != 0 {
		t.Errorf("made again once it failed: %v", slices.Collect(maps.Keys(got)))
	}
}

// A row that the API server never takes is passed over, once, and those behind it come through.
func TestImpossibleRowsBlockNobody(t *testing.T) {
	tests := map[string]struct {
		sid   string
		taken func(*v1alpha1.CallRecordingSpec) // what a person made under the same name, if any
	}{
		"the name is another recording's": {
			"call-1",
			func(s *v1alpha1.CallRecordingSpec) { s.CallSID = "other" },
		},
		"the name is another tenant's": {
			"call-1",
			func(s *v1alpha1.CallRecordingSpec) { s.TenantRef.Name = "other" },
		},
		"the same recording under a signed URL": {
			"call-1",
			func(s *v1alpha1.CallRecordingSpec) { s.SourceURL += "?X-Amz-Signature=x" },
		},
		"a call id that the CRD refuses": {"call 1", nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			rig := newRig(t)
			tenant, other := rig.tenant(t, "support"), rig.tenant(t, "other")
			id := rig.enqueue(t, tenant.ID(), tt.sid)
			rig.enqueueMany(t, tenant.ID(), 30)
			rig.enqueueMany(t, other.ID(), 3)
			persons := &v1alpha1.CallRecording{
				ObjectMeta: metav1.ObjectMeta{Namespace: rig.ns, Name: Name("support", id)},
				Spec: v1alpha1.CallRecordingSpec{
					TenantRef: v1alpha1.TenantReference{Name: "support"},
					CallSID:   tt.sid,
					SourceURL: "https://recordings.exotel.com/" + tt.sid + ".mp3",
				},
			}
			if tt.taken != nil {
				tt.taken(&persons.Spec)
				if err := rig.Create(t.Context(), persons); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				rig.round(t)
			}
			for _, o := range []*v1alpha1.Tenant{tenant, other} {
				if n := rig.unviewed(t, o.ID()); n != 0 {
					t.Errorf("%d rows of %s are still to be looked at", n, o.Name)
				}
			}
			if diff := cmp.Diff(
				[]string{persons.Name},
				slices.DeleteFunc(slices.Clone(rig.applied), func(s string) bool { return s != persons.Name }),
			); diff != "" {
				t.Errorf("tries of the impossible one (-want +got):\n%s", diff)
			}
			if tt.taken == nil {
				return
			}
			var now v1alpha1.CallRecording
			if err := rig.Get(
				t.Context(),
				client.ObjectKeyFromObject(persons),
				&now,
			); err != nil ||
				now.ResourceVersion != persons.ResourceVersion {
				t.Errorf("the person's CallRecording was changed: %v", err)
			}
		})
	}
}

// What the API server refuses for now, as over a quota, is tried again, keeps no other tenant waiting, and what was made
// before it is not made once more.
func TestRefusedForNow(t *testing.T) {
	rig := newRig(t)
	tenant, other := rig.tenant(t, "a"), rig.tenant(t, "b")
	rig.enqueueMany(t, tenant.ID(), 4)
	rig.enqueueMany(t, other.ID(), 4)
	left := 2
	rig.refuse = func(o *v1alpha1ac.CallRecordingApplyConfiguration) error {
		if !strings.HasPrefix(*o.Name, "a-") {
			return nil
		}
		if left--; left < 0 {
			return apierrors.NewForbidden(
				schema.GroupResource{Resource: "callrecordings"},
				*o.Name,
				errors.New("exceeded quota"),
			)
		}
		return nil
	}
	for range 2 { // whichever tenant comes first
		if err := rig.in.round(t.Context()); !apierrors.IsForbidden(err) {
			t.Errorf("the round: %v, want what the API server said", err)
		}
	}
	if a, b := len(rig.views(t, "a")), len(rig.views(t, "b")); a != 2 || b != 4 {
		t.Errorf("%d and %d CallRecordings, want 2 and 4", a, b)
	}
	rig.refuse = nil
	rig.round(t)
	if got := len(rig.views(t, "a")); got != 4 || rig.unviewed(t, tenant.ID()) != 0 {
		t.Errorf(
			"%d CallRecordings and %d rows left once there is room, want 4 and 0",
			got,
			rig.unviewed(t, tenant.ID()),
		)
	}
	if got := len(slices.Compact(slices.Sorted(slices.Values(rig.applied)))); len(rig.applied)-got != 2 {
		t.Errorf("%d applies for %d CallRecordings, want two in vain", len(rig.applied), got)
	}
}

func TestLoopGoesOnAfterAnErrorAndEnds(t *testing.T) {
	rig := newRig(t)
	tenant := rig.tenant(t, "support")
	rig.enqueueMany(t, tenant.ID(), 3)
	rig.in.Store = &failingStore{Store: rig.db, failures: 1}
	leaks := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- rig.in.Start(ctx) }()
	eventually.Succeeds(t, func(context.Context) error {
		if n := rig.unviewed(t, tenant.ID()); n != 0 {
			return fmt.Errorf("%d rows are still to be looked at", n)
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Start: %v", err)
	}
	goleak.VerifyNone(t, leaks)
	if !rig.in.NeedLeaderElection() {
		t.Error("every replica would make CallRecordings")
	}
}

// TestNotCompiled: until a Tenant was compiled, the rows of its ID may be those of a predecessor. It gets no
// CallRecording of them.
func TestNotCompiled(t *testing.T) {
	rig := newRig(t)
	tenant := rig.tenant(t, "support")
	rig.setDigest(t, tenant, "")
	rig.enqueue(t, tenant.ID(), "call of a predecessor")
	rig.round(t)
	if len(rig.applied) != 0 {
		t.Fatalf("made %v of rows that may be a predecessor's", rig.applied)
	}
	rig.setDigest(t, tenant, "compiled")
	rig.round(t)
	if len(rig.applied) != 1 {
		t.Errorf("made %v once it was compiled, want one", rig.applied)
	}
}
