package callrecording

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/testkit/eventually"
)

// TestNamespaceIsFull applies more CallRecordings by hand than the namespace may have. The last one is held back, with
// a condition, until another one is deleted; those that were queued before go on.
func TestNamespaceIsFull(t *testing.T) {
	rig := newSubject(t)
	rig.rec.MaxPerNamespace = 3
	rig.rec.room = rig.watchRoom(t)
	rig.Tenant(t, "support")
	counted := func(want int) {
		t.Helper()
		eventually.Succeeds(t, func(context.Context) error {
			if got := rig.rec.room.in(rig.Namespace); got != want {
				return fmt.Errorf("%d CallRecordings are counted, want %d", got, want)
			}
			return nil
		})
	}
	reconcile := func(o *v1alpha1.CallRecording) (ctrl.Result, *metav1.Condition) {
		t.Helper()
		res, err := rig.rec.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(o)})
		if err != nil {
			t.Fatal(err)
		}
		if err := rig.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			t.Fatal(err)
		}
		return res, apimeta.FindStatusCondition(o.Status.Conditions, v1alpha1.ConditionStalled)
	}
	var list []*v1alpha1.CallRecording
	for i := range 4 {
		name := fmt.Sprint("by-hand-", i)
		callRecording := &v1alpha1.CallRecording{
			ObjectMeta: metav1.ObjectMeta{Namespace: rig.Namespace, Name: name},
			Spec: v1alpha1.CallRecordingSpec{
				TenantRef: v1alpha1.TenantReference{Name: "support"},
				CallSID:   name,
				SourceURL: "https://recordings.exotel.com/" + name + ".mp3",
			},
		}
		if err := rig.Client.Create(t.Context(), callRecording); err != nil {
			t.Fatal(err)
		}
		list = append(list, callRecording)
		counted(i + 1)
		res, stalled := reconcile(callRecording)
		switch held := stalled != nil && stalled.Reason == v1alpha1.ReasonTooManyCallRecordings; {
		case i < 3 && stalled != nil:
			t.Errorf("the CallRecording %d: %+v", i+1, stalled)
		case i == 3 && (!held || res.RequeueAfter < roomRetry):
			t.Errorf("one too many: %+v, %+v", res, stalled)
		}
	}
	if _, stalled := reconcile(list[0]); stalled != nil {
		t.Errorf("one that was queued before: %+v", stalled)
	}
	if err := rig.Client.Delete(t.Context(), list[1]); err != nil {
		t.Fatal(err)
	}
	counted(3)
	if _, stalled := reconcile(list[3]); stalled != nil || list[3].Status.Phase != v1alpha1.RecordingPhasePending {
		t.Errorf("once there is room: %s, %+v", list[3].Status.Phase, stalled)
	}
}

// watchRoom counts the CallRecordings of the rig's namespace.
func (r *subject) watchRoom(t *testing.T) *room {
	t.Helper()
	options := cache.Options{Scheme: r.Scheme, DefaultNamespaces: map[string]cache.Config{r.Namespace: {}}}
	return startRoom(t, r.Config, options, nil)
}

// startRoom counts what a cache has, which ends with the test.
func startRoom(t testing.TB, config *rest.Config, o cache.Options, then func(cache.Cache)) *room {
	t.Helper()
	c, err := cache.New(config, o)
	if err != nil {
		t.Fatal(err)
	}
	counted, err := watchRoom(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if !toolscache.WaitForCacheSync(t.Context().Done(), counted.synced) {
		t.Fatal("the CallRecordings are not counted")
	}
	if then != nil {
		then(c)
	}
	return counted
}

// TestRoomNotCounted queues nothing before the CallRecordings that exist are counted.
func TestRoomNotCounted(t *testing.T) {
	reconciler := &Reconciler{MaxPerNamespace: 1, room: &room{synced: func() bool { return false }}}
	if err := reconciler.checkRoom(t.Context(), &scope{obj: &v1alpha1.CallRecording{}}); !errors.Is(
		err, errNotCounted,
	) {
		t.Errorf("got %v", err)
	}
}

// TestRoomCounts adds and deletes as an informer reports it.
func TestRoomCounts(t *testing.T) {
	counted := &room{used: map[string]int{}}
	in := func(namespace string) *v1alpha1.CallRecording {
		return &v1alpha1.CallRecording{ObjectMeta: metav1.ObjectMeta{Namespace: namespace}}
	}
	counted.add(in("a"), 1)
	counted.add(in("a"), 1)
	counted.add(in("b"), 1)
	counted.add(toolscache.DeletedFinalStateUnknown{Key: "b/x", Obj: in("b")}, -1)
	counted.add(in("a"), -1)
	counted.add(toolscache.DeletedFinalStateUnknown{Key: "a/x"}, -1)
	if counted.in("a") != 1 || counted.in("b") != 0 || len(counted.used) != 1 {
		t.Errorf("counted %v", counted.used)
	}
}

// BenchmarkRoom counts 10,000 CallRecordings of a namespace, as checkRoom does and as a list of the cache would.
func BenchmarkRoom(b *testing.B) {
	const objects = 10_000
	server := httptest.NewServer(serveCallRecordings(objects))
	b.Cleanup(server.Close) // after the cache, whose watch it would wait for
	mapper := apimeta.NewDefaultRESTMapper(nil)
	mapper.Add(v1alpha1.GroupVersion.WithKind("CallRecording"), apimeta.RESTScopeNamespace)
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		b.Fatal(err)
	}
	options := cache.Options{Scheme: scheme, Mapper: mapper}
	var reader cache.Cache
	counted := startRoom(b, &rest.Config{Host: server.URL}, options, func(c cache.Cache) { reader = c })
	b.Run("count", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if counted.in("acme") != objects {
				b.Fatal(counted.in("acme"))
			}
		}
	})
	b.Run("list", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var list v1alpha1.CallRecordingList
			err := reader.List(b.Context(), &list, client.InNamespace("acme"), client.Limit(1501),
				client.UnsafeDisableDeepCopy)
			if err != nil || len(list.Items) != 1501 {
				b.Fatal(len(list.Items), err)
			}
		}
	})
}

// serveCallRecordings is an API server with CallRecordings in one namespace that never change.
func serveCallRecordings(n int) http.HandlerFunc {
	list := v1alpha1.CallRecordingList{
		TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "CallRecordingList"},
		ListMeta: metav1.ListMeta{ResourceVersion: "1"},
	}
	for i := range n {
		list.Items = append(list.Items, v1alpha1.CallRecording{ObjectMeta: metav1.ObjectMeta{
			Namespace:       "acme",
			Name:            fmt.Sprint("r", i),
			UID:             types.UID(fmt.Sprint(i)),
			ResourceVersion: "1",
		}})
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Query().Get("sendInitialEvents") != "": // as API servers that do not stream lists
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(metav1.Status{
				Status:   metav1.StatusFailure,
				Reason:   metav1.StatusReasonInvalid,
				Code:     http.StatusUnprocessableEntity,
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			})
		case r.URL.Query().Get("watch") != "":
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		default:
			_ = json.NewEncoder(w).Encode(list)
		}
	}
}
