package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/caly-dev/caly/internal/tenantconfig"
)

// deletionGrace is how long the last value of a deleted tenant config stays in force while the operator lists the
// config as published: somebody deleted the Secret by accident, and the operator writes it again.
const deletionGrace = 10 * time.Minute

// published is what the pod knows of the operator's list of tenant configs, under the Watcher's lock.
type published struct {
	// names of the Secrets; nil before a list was read.
	names map[string]struct{}
	// deleted are the timers of Secrets that were deleted and are listed, by name.
	deleted map[string]*time.Timer
}

// withdrawn reports whether the operator says that a config must not be in force.
func (p *published) withdrawn(name string) bool {
	_, listed := p.names[name]
	return p.names != nil && !listed
}

// restored ends the grace period of a Secret.
func (p *published) restored(name string) {
	if timer, deleted := p.deleted[name]; deleted {
		timer.Stop()
		delete(p.deleted, name)
	}
}

func (w *Watcher) setList(s *corev1.Secret) {
	names := tenantconfig.DecodeList(s.Data)
	if names == nil {
		w.log.Error("the list of tenant configs cannot be read; the last one stays in force",
			"secret", s.Name, "missing", tenantconfig.ListKey)
		return
	}
	w.swap(func() {
		w.published.names = names
		for name := range w.published.deleted {
			if w.published.withdrawn(name) {
				w.forget(name)
			}
		}
	})
}

// keepDeleted keeps the last value of a deleted config in force for a while. The lock is held.
func (w *Watcher) keepDeleted(name string) {
	grace := w.Grace
	if grace == 0 {
		grace = deletionGrace
	}
	w.log.Warn("a tenant config was deleted, but not by the operator; its last value stays in force",
		"tenant", w.byObject[name], "secret", name, "until", time.Now().Add(grace))
	var timer *time.Timer
	timer = time.AfterFunc(grace, func() {
		w.swap(func() {
			if w.published.deleted[name] == timer {
				w.log.Error("a deleted tenant config was not written again; the tenant's requests are answered 503",
					"tenant", w.byObject[name], "secret", name)
				w.forget(name)
			}
		})
	})
	w.published.deleted[name] = timer
}

// stopTimers ends all grace periods.
func (w *Watcher) stopTimers() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.published.deleted {
		w.published.restored(name)
	}
}

// missing returns the number of published configs that the pod has not read. The lock is held.
func (w *Watcher) missing() (n int) {
	for name := range w.published.names {
		if _, known := w.byObject[name]; !known {
			n++
		}
	}
	return n
}

// Missing returns the number of published configs whose Secret this pod does not have. A deleted one counts, although
// its last value may be in force.
func (w *Watcher) Missing() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.missing() + len(w.published.deleted)
}
