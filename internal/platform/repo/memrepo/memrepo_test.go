package memrepo_test

import (
	"testing"

	"sluice/internal/platform/repo"
	"sluice/internal/platform/repo/memrepo"
	"sluice/internal/platform/repo/repotest"
)

func open(testing.TB) repo.Driver { return memrepo.New(memrepo.Config{}) }

func openOneAggregate(testing.TB) repo.Driver {
	return memrepo.New(memrepo.Config{OneAggregate: true})
}

func TestContract(t *testing.T) { repotest.Run(t, open) }

func TestContractOneAggregate(t *testing.T) { repotest.Run(t, openOneAggregate) }

func BenchmarkDriver(b *testing.B) { repotest.Benchmark(b, open) }
