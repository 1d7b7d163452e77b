package metric

import (
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Pool is a pool of database connections. The handles of package store are pools.
type Pool interface{ Stat() *pgxpool.Stat }

// pools collects the metrics of database pools.
type pools struct {
	pools                                map[string]Pool
	connections, most, waits, waitedTime *prometheus.Desc
}

// NewPools returns a collector of the pools of a program, by their names.
func NewPools(named map[string]Pool) prometheus.Collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("caly_database_pool_"+name, help, append([]string{"pool"}, labels...), nil)
	}
	return &pools{
		pools: named,
		connections: desc("connections",
			"Connections to PostgreSQL, by state: acquired, idle, constructing.", "state"),
		most:       desc("max_connections", "The most connections that the pool may have."),
		waits:      desc("waits_total", "Connections that were acquired after a wait, because none was idle."),
		waitedTime: desc("wait_seconds_total", "Time that was waited for these connections."),
	}
}

// Describe implements prometheus.Collector.
func (p *pools) Describe(ch chan<- *prometheus.Desc) {
	ch <- p.connections
	ch <- p.most
	ch <- p.waits
	ch <- p.waitedTime
}

// Collect implements prometheus.Collector.
func (p *pools) Collect(ch chan<- prometheus.Metric) {
	send := func(desc *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, kind, value, labels...)
	}
	for name, pool := range p.pools {
		stat := pool.Stat()
		send(p.connections, prometheus.GaugeValue, float64(stat.AcquiredConns()), name, "acquired")
		send(p.connections, prometheus.GaugeValue, float64(stat.IdleConns()), name, "idle")
		send(p.connections, prometheus.GaugeValue, float64(stat.ConstructingConns()), name, "constructing")
		send(p.most, prometheus.GaugeValue, float64(stat.MaxConns()), name)
		send(p.waits, prometheus.CounterValue, float64(stat.EmptyAcquireCount()), name)
		send(p.waitedTime, prometheus.CounterValue, stat.EmptyAcquireWaitTime().Seconds(), name)
	}
}
