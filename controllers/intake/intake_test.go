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
	"github.com/caly-dev/caly/internal/testkit/controllertest"
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
			rig := controllertest.New(t)
			in, _ := newIntake(rig)
			in.MaxTotal = tt.maxTotal
			in.MaxPerTenant = tt.maxPerTenant
			for tenant, n := range tt.rows {
				rig.Tenant(t, tenant)
				enqueueMany(t, rig, rig.Namespace+"/"+tenant, n)
			}
			for i, want := range tt.want {
				runRound(t, in)
				got := map[string]int{}
				for tenant := range tt.rows {
					if n := len(views(t, rig, tenant)); n > 0 {
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

// TestTenantsTakeTurns verifies that tenants get free places in turn when the total is used up. The first of the list
// does not get them all.
func TestTenantsTakeTurns(t *testing.T) {
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	in.MaxTotal = 2 // and so 2 of a namespace
	names := []string{"a", "b", "c"}
	for _, name := range names {
		rig.Tenant(t, name)
		enqueueMany(t, rig, rig.Namespace+"/"+name, 10)
	}
	got := map[string]int{}
	for range 6 {
		runRound(t, in)
		for _, name := range names {
			for _, o := range views(t, rig, name) {
				got[name]++
				if err := rig.Client.Delete(t.Context(), &o); err != nil {
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
			rig := controllertest.New(t)
			in, _ := newIntake(rig)
			tenant := rig.Tenant(t, "support", tt.change)
			if len(tenant.Finalizers) > 0 {
				if err := rig.Client.Delete(t.Context(), tenant); err != nil {
					t.Fatal(err)
				}
			}
			state := oneOfEach(t, rig, tenant.ID())
			runRound(t, in)
			var got []string
			for _, o := range views(t, rig, "support") {
				got = append(got, state[o.Spec.CallSID])
			}
			slices.Sort(got)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("CallRecordings (-want +got):\n%s", diff)
			}
		})
	}
}

// TestUploadedLeaveRoom verifies that recordings that were uploaded before a round get CallRecordings in at most half
// of the room. Pending recordings come first.
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
			rig := controllertest.New(t)
			in, _ := newIntake(rig)
			in.MaxTotal = tt.maxTotal
			in.MaxPerTenant = tt.maxPerTenant
			tenant := rig.Tenant(t, "support")
			pods := rig.UploadPods(t, tenant.ID())
			for i := range tt.uploaded {
				id := enqueue(t, rig, tenant.ID(), fmt.Sprintf("uploaded-%d", i))
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
				enqueue(t, rig, tenant.ID(), fmt.Sprintf("pending-%d", i))
			}
			for i, want := range tt.want {
				runRound(t, in)
				got := map[string]int{}
				for _, o := range views(t, rig, "support") {
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
func oneOfEach(t *testing.T, r *controllertest.Rig, tenant string) map[string]string {
	t.Helper()
	pods := r.UploadPods(t, tenant)
	state := map[string]string{}
	for _, s := range []string{"uploaded", "failed", "leased", "pending"} { // each claim finds the one that is pending
		id := enqueue(t, r, tenant, "call-"+s)
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
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	longest := strings.Repeat("a", 38) + ".b" // the longest name a Tenant may have
	id := enqueue(t, rig, rig.Namespace+"/"+longest, "call-1")
	rig.Tenant(t, longest)
	runRound(t, in)
	got, ok := views(t, rig, longest)[longest+"-"+id]
	if !ok {
		t.Fatalf("made %v, want %s-%s", slices.Collect(maps.Keys(views(t, rig, longest))), longest, id)
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
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	tenant := rig.Tenant(t, "support")
	const plain = "https://s3-ap-south-1.amazonaws.com/exotelrecordings/call-1.mp3"
	const signed = plain + "?X-Amz-Credential=AKIA&X-Amz-Signature=SECRET#SECRET"
	id := rig.Enqueue(t, tenant.ID(), "call-1", signed)
	runRound(t, in)
	got := views(t, rig, "support")["support-"+id]
	if got.Spec.SourceURL != plain || recording.ID(got.Spec.CallSID, got.Spec.SourceURL) != id {
		t.Errorf("the CallRecording has %q, want %q", got.Spec.SourceURL, plain)
	}
	if text, err := json.Marshal(got); err != nil || strings.Contains(string(text), "SECRET") {
		t.Errorf("%s, %v; want no part of the signature", text, err)
	}
	key := store.RecordingKey{Tenant: tenant.ID(), ID: id}
	if rows, err := rig.DB.Recordings(t.Context(), []store.RecordingKey{key}); err != nil ||
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
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	tenant := rig.Tenant(t, "support")
	enqueueMany(t, rig, tenant.ID(), 5)
	in.Store = &failingStore{Store: rig.DB, failures: 1}
	if err := in.round(t.Context()); !errors.Is(err, store.ErrUnavailable) ||
		!strings.Contains(err.Error(), tenant.ID()) {
		t.Fatalf("the round that was cut off: %v, want one that names %s", err, tenant.ID())
	}
	first := views(t, rig, "support")
	runRound(t, in)
	ignoreVersion := cmpopts.IgnoreFields(metav1.ObjectMeta{}, "ResourceVersion")
	if diff := cmp.Diff(first, views(t, rig, "support"), ignoreVersion); diff != "" || len(first) != 5 {
		t.Errorf("the same five again (-first +second):\n%s", diff)
	}
	if n := unviewed(t, rig, tenant.ID()); n != 0 {
		t.Errorf("%d rows are still to be looked at", n)
	}
}

func TestDeletedByAPersonIsNotMadeAgain(t *testing.T) {
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	tenant := rig.Tenant(t, "support")
	id := enqueue(t, rig, tenant.ID(), "call-1")
	runRound(t, in)
	callRecording := views(t, rig, "support")[Name("support", id)]
	if err := rig.Client.Delete(t.Context(), &callRecording); err != nil {
		t.Fatal(err)
	}
	runRound(t, in)
	if got := views(t, rig, "support"); len(got) != 0 {
		t.Errorf("made again: %v", slices.Collect(maps.Keys(got)))
	}
	// Nor once it fails, though a tenant with Failed would see it then for the first time.
	pods := rig.UploadPods(t, tenant.ID())
	if _, err := pods.Claim(t.Context(), "pod", 1, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := pods.Fail(t.Context(), "pod", id, "gone", "410"); err != nil {
		t.Fatal(err)
	}
	runRound(t, in)
	if got := views(t, rig, "support"); len(got) != 0 {
		t.Errorf("made again once it failed: %v", slices.Collect(maps.Keys(got)))
	}
}

// TestImpossibleRowsBlockNobody verifies that a row that the API server never accepts is skipped once, and that the
// rows after it come through.
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
			rig := controllertest.New(t)
			in, api := newIntake(rig)
			tenant, other := rig.Tenant(t, "support"), rig.Tenant(t, "other")
			id := enqueue(t, rig, tenant.ID(), tt.sid)
			enqueueMany(t, rig, tenant.ID(), 30)
			enqueueMany(t, rig, other.ID(), 3)
			persons := &v1alpha1.CallRecording{
				ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: Name("support", id)},
				Spec: v1alpha1.CallRecordingSpec{
					TenantRef: v1alpha1.TenantReference{Name: "support"},
					CallSID:   tt.sid,
					SourceURL: "https://recordings.exotel.com/" + tt.sid + ".mp3",
				},
			}
			if tt.taken != nil {
				tt.taken(&persons.Spec)
				if err := rig.Client.Create(t.Context(), persons); err != nil {
					t.Fatal(err)
				}
			}
			for range 3 {
				runRound(t, in)
			}
			for _, o := range []*v1alpha1.Tenant{tenant, other} {
				if n := unviewed(t, rig, o.ID()); n != 0 {
					t.Errorf("%d rows of %s are still to be looked at", n, o.Name)
				}
			}
			if diff := cmp.Diff(
				[]string{persons.Name},
				slices.DeleteFunc(slices.Clone(api.applied), func(s string) bool { return s != persons.Name }),
			); diff != "" {
				t.Errorf("tries of the impossible one (-want +got):\n%s", diff)
			}
			if tt.taken == nil {
				return
			}
			var now v1alpha1.CallRecording
			if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(persons), &now); err != nil ||
				now.ResourceVersion != persons.ResourceVersion {
				t.Errorf("the person's CallRecording was changed: %v", err)
			}
		})
	}
}

// TestRefusedForNow checks that a CallRecording that the API server refuses for now, as over a quota, is tried again
// and keeps no other tenant waiting. Those made before are not made again.
func TestRefusedForNow(t *testing.T) {
	rig := controllertest.New(t)
	in, api := newIntake(rig)
	tenant, other := rig.Tenant(t, "a"), rig.Tenant(t, "b")
	enqueueMany(t, rig, tenant.ID(), 4)
	enqueueMany(t, rig, other.ID(), 4)
	left := 2
	api.refuse = func(o *v1alpha1ac.CallRecordingApplyConfiguration) error {
		if !strings.HasPrefix(*o.Name, "a-") {
			return nil
		}
		if left--; left < 0 {
			return apierrors.NewForbidden(
				schema.GroupResource{Resource: "callrecordings"}, *o.Name, errors.New("exceeded quota"),
			)
		}
		return nil
	}
	for range 2 { // whichever tenant comes first
		if err := in.round(t.Context()); !apierrors.IsForbidden(err) {
			t.Errorf("the round: %v, want what the API server said", err)
		}
	}
	if a, b := len(views(t, rig, "a")), len(views(t, rig, "b")); a != 2 || b != 4 {
		t.Errorf("%d and %d CallRecordings, want 2 and 4", a, b)
	}
	api.refuse = nil
	runRound(t, in)
	if got := len(views(t, rig, "a")); got != 4 || unviewed(t, rig, tenant.ID()) != 0 {
		t.Errorf(
			"%d CallRecordings and %d rows left once there is room, want 4 and 0", got, unviewed(t, rig, tenant.ID()),
		)
	}
	if got := len(slices.Compact(slices.Sorted(slices.Values(api.applied)))); len(api.applied)-got != 2 {
		t.Errorf("%d applies for %d CallRecordings, want two in vain", len(api.applied), got)
	}
}

func TestLoopGoesOnAfterAnErrorAndEnds(t *testing.T) {
	rig := controllertest.New(t)
	in, _ := newIntake(rig)
	tenant := rig.Tenant(t, "support")
	enqueueMany(t, rig, tenant.ID(), 3)
	in.Store = &failingStore{Store: rig.DB, failures: 1}
	leaks := goleak.IgnoreCurrent()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- in.Start(ctx) }()
	eventually.Succeeds(t, func(context.Context) error {
		if n := unviewed(t, rig, tenant.ID()); n != 0 {
			return fmt.Errorf("%d rows are still to be looked at", n)
		}
		return nil
	})
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Start: %v", err)
	}
	goleak.VerifyNone(t, leaks)
	if !in.NeedLeaderElection() {
		t.Error("every replica would make CallRecordings")
	}
}

// TestNotCompiled verifies that a Tenant that is not compiled gets no CallRecordings. Until then, the rows of its ID
// may belong to a predecessor.
func TestNotCompiled(t *testing.T) {
	rig := controllertest.New(t)
	in, api := newIntake(rig)
	tenant := rig.Tenant(t, "support")
	rig.SetDigest(t, tenant, "")
	enqueue(t, rig, tenant.ID(), "call of a predecessor")
	runRound(t, in)
	if len(api.applied) != 0 {
		t.Fatalf("made %v of rows that may be a predecessor's", api.applied)
	}
	rig.SetDigest(t, tenant, "compiled")
	runRound(t, in)
	if len(api.applied) != 1 {
		t.Errorf("made %v once it was compiled, want one", api.applied)
	}
}
