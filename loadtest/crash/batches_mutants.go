package main

const batch = "internal/batch/"

// batchMutants are defects of batches.
var batchMutants = []mutant{
	{"nobody takes the chunk of a dead worker", []edit{
		{batch + "job/ledger.go", "		if c.Done || now.Before(c.Until) {\n", "		if c.Done || !c.Until.IsZero() {\n"},
	}, []string{"not ended"}},
	{"a chunk's results are written after the ledger names them", []edit{
		{batch + "run/compute.go", "	_, err := t.bucket.Put(ctx, o.Key,", "	go func() {\n		time.Sleep(400 * time.Millisecond)\n		_, _ = t.bucket.Put(context.WithoutCancel(ctx), o.Key,"},
		{batch + "run/compute.go", "SHA256: o.SHA256}})\n	return o, err\n", "SHA256: o.SHA256}})\n	}()\n	return o, nil\n"},
	}, []string{"not ended", "other bytes"}},
	{"what a dead worker has written stays", []edit{
		{"cmd/internal/batches/batches.go", "	d.Objects = append(d.Objects, node.Objects{Folder: job.Folder, Owned: job.Owned})\n", ""},
		{batch + "run/compute.go", "	if _, err = t.update(ctx, func(b *job.Batch, now time.Time) error { return b.Computed(", "	time.Sleep(300 * time.Millisecond)\n	if _, err = t.update(ctx, func(b *job.Batch, now time.Time) error { return b.Computed("},
	}, []string{"orphan"}},
}
