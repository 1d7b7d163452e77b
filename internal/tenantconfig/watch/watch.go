// Package watch keeps a data-plane pod's tenant configs and its keyring current. It is apart from package tenantconfig, so that upload pods,
// which read one file, carry no Kubernetes client.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/caly-dev/caly/api/v1alpha1"
	"github.com/caly-dev/caly/internal/tenantconfig"
)

// Watcher keeps a snapshot of the tenant configs of the work namespace. A config that cannot be read leaves the tenant's
// last good one in force.
type Watcher struct {
	client    kubernetes.Interface
	namespace string
	log       *slog.Logger
	current   atomic.Pointer[tenantconfig.Snapshot]
	synced    atomic.Bool
	rejected  atomic.Int64
	keys      keys

	mu       sync.Mutex // guards what follows and the swap of current
	tenants  map[string]*tenantconfig.Tenant
	byObject map[string]string   // Secret's name -> tenant id
	unread   map[string]struct{} // names of Secrets that cannot be read as they are now
	live     bool                // changes are published
}

// New returns a watcher that Run starts.
func New(client kubernetes.Interface, namespace string, log *slog.Logger) *Watcher {
	w := &Watcher{client: client, namespace: namespace, log: log, tenants: map[string]*tenantconfig.Tenant{},
		byObject: map[string]string{}, unread: map[string]struct{}{}}
	w.current.Store(tenantconfig.NewSnapshot())
	return w
}

// Snapshot returns the tenants known now. It costs one atomic load.
func (w *Watcher) Snapshot() *tenantconfig.Snapshot { return w.current.Load() }

// Synced tells whether every config that existed at start has been read.
func (w *Watcher) Synced() bool { return w.synced.Load() }

// Ready returns why webhooks should rather go to another pod: not every config that existed at start has been read, or none of those
// that there are could be. The latter is so after an upgrade, until the operator has written them anew.
func (w *Watcher) Ready() error {
	if !w.Synced() {
		return errors.New("the tenant configs are not read yet")
	}
	if read, unread := w.Counts(); read == 0 && unread > 0 {
		return fmt.Errorf("none of the %d tenant configs can be read: operator and data plane must be of one release", unread)
	}
	return nil
}

// Counts are the tenants that are known, and the configs that cannot be read as they are now.
func (w *Watcher) Counts() (known, unreadable int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.tenants), len(w.unread)
}

// Rejected counts configs that could not be read.
func (w *Watcher) Rejected() int64 { return w.rejected.Load() }

// Run watches until ctx is done.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	stop, err := w.watchKeyring(ctx)
	if err != nil {
		cancel()
		return err
	}
	defer stop()
	defer cancel()
	factory := w.factory(fields.OneTermEqualSelector("type", v1alpha1.SecretTypeTenantConfig))
	handler, err := factory.Core().V1().Secrets().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { w.set(o) },
		UpdateFunc: func(_, o any) { w.set(o) },
		DeleteFunc: func(o any) { w.remove(o) },
	})
	if err != nil {
		return err
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	// The handler's word, not the informer's: that one has listed the configs before they have all come through set.
	if !cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		return errors.New("stopped before the tenant configs were read")
	}
	w.publish()
	w.log.Info("tenant configs are read", "tenants", w.Snapshot().Len())
	<-ctx.Done()
	return nil
}

// factory makes informers of the Secrets of the work namespace that a selector names.
func (w *Watcher) factory(selector fields.Selector) informers.SharedInformerFactory {
	return informers.NewSharedInformerFactoryWithOptions(w.client, 0, informers.WithNamespace(w.namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = selector.String() }))
}

func (w *Watcher) set(o any) {
	s, ok := o.(*corev1.Secret)
	if !ok || string(s.Type) != v1alpha1.SecretTypeTenantConfig {
		return
	}
	t, err := tenantconfig.DecodeTenant(s.Data[tenantconfig.Key])
	if err == nil && tenantconfig.SecretName(tenantconfig.PrefixTenant, t.ID) != s.Name {
		err = errors.New("the Secret's name is not the one of the tenant in it")
	}
	if err != nil {
		w.rejected.Add(1)
		w.mu.Lock()
		w.unread[s.Name] = struct{}{}
		w.mu.Unlock()
		w.log.Error("a tenant config cannot be read; the tenant's last good one stays in force", "secret", s.Name, "error", err)
		return
	}
	w.swap(func(m map[string]*tenantconfig.Tenant) {
		delete(w.unread, s.Name)
		w.byObject[s.Name] = t.ID
		m[t.ID] = t
	})
}

// publish makes what was read at start known, at once: a snapshot for each config would take time with its square.
func (w *Watcher) publish() {
	w.swap(func(map[string]*tenantconfig.Tenant) { w.live = true })
	w.synced.Store(true)
}

func (w *Watcher) remove(o any) {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	s, ok := o.(*corev1.Secret)
	if !ok {
		return
	}
	w.swap(func(m map[string]*tenantconfig.Tenant) {
		delete(m, w.byObject[s.Name])
		delete(w.byObject, s.Name)
		delete(w.unread, s.Name)
	})
}

func (w *Watcher) swap(change func(map[string]*tenantconfig.Tenant)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.tenants)
	if !w.live {
		return
	}
	w.current.Store(tenantconfig.NewSnapshot(slices.Collect(maps.Values(w.tenants))...))
}
