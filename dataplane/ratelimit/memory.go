package ratelimit

import (
	"container/list"
	"sync"
)

// hash is the keyed hash of a tenant, a limit's name and what is limited. Nobody outside can choose one, so they spread evenly.
type hash = [32]byte

// shards keep those who look up different keys out of each other's way.
const shards = 64

// memory is a map of bounded size: when it is full, what was used longest ago goes. Each value says how much room it takes.
type memory[V any] struct {
	shards [shards]shard[V]
}

type shard[V any] struct {
	mu         sync.Mutex
	room, used int
	entries    map[hash]*list.Element
	order      list.List // of *entry[V], the latest used in front
}

type entry[V any] struct {
	key    hash
	value  V
	weight int
}

func newMemory[V any](room int) *memory[V] {
	m := &memory[V]{}
	for i := range m.shards {
		m.shards[i].room = max(room/shards, 1)
		m.shards[i].entries = map[hash]*list.Element{}
	}
	return m
}

// use calls fn with the key's value, a new one if there was none. fn returns the room that it takes then; 0 removes it.
func (m *memory[V]) use(k hash, fn func(v *V) int) {
	s := &m.shards[k[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	el, ok := s.entries[k]
	if !ok {
		el = s.order.PushFront(&entry[V]{key: k})
		s.entries[k] = el
	}
	s.order.MoveToFront(el)
	s.weigh(el, fn)
	for s.used > s.room {
		s.drop(s.order.Back())
	}
}

// peek calls fn with the key's value, if there is one. fn is as in use.
func (m *memory[V]) peek(k hash, fn func(v *V) int) {
	s := &m.shards[k[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if el, ok := s.entries[k]; ok {
		s.order.MoveToFront(el)
		s.weigh(el, fn)
	}
}

func (s *shard[V]) weigh(el *list.Element, fn func(v *V) int) {
	e := el.Value.(*entry[V]) //nolint:forcetypeassert // nothing else is in the list
	weight := fn(&e.value)
	s.used += weight - e.weight
	e.weight = weight
	if weight == 0 {
		s.drop(el)
	}
}

func (s *shard[V]) drop(el *list.Element) {
	e := s.order.Remove(el).(*entry[V]) //nolint:forcetypeassert // nothing else is in the list
	delete(s.entries, e.key)
	s.used -= e.weight
}

// weight is the room that is taken.
func (m *memory[V]) weight() (n int) {
	for i := range m.shards {
		m.shards[i].mu.Lock()
		n += m.shards[i].used
		m.shards[i].mu.Unlock()
	}
	return n
}
