package main

const job = "internal/inference/job/"

// jobMutants are defects of durable predictions.
var jobMutants = []mutant{
	{"the outcome of an outdated attempt counts", []edit{
		{job + "prediction.go", "if p.Attempt != fence || p.Status != Running && p.Status != Cancelling {", "if false {"},
	}, []string{"two ends"}},
	{"an attempt is not counted where its worker dies", []edit{
		{job + "prediction.go", "	p.Attempt++\n", "	p.Attempt = max(p.Attempt, 1)\n"},
	}, []string{"not counted", "not ended"}},
	{"nobody looks after what a dead worker ran", []edit{
		{job + "prediction.go", "	case p.Status.Final(), now.Before(p.Due):\n", "	case p.Status.Final(), now.Before(p.Due), p.Status == Running:\n"},
	}, []string{"not ended"}},
	{"nobody looks after what was cancelled while a worker died", []edit{
		{job + "prediction.go", "	case p.Status.Final(), now.Before(p.Due):\n", "	case p.Status.Final(), now.Before(p.Due), p.Status == Cancelling:\n"},
	}, []string{"not ended"}},
	{"events are numbered in memory", []edit{
		{platform + "repo/kind.go", "		root.Sequence++\n", "		root.Sequence = count(key, root.Sequence)\n"},
		{platform + "repo/kind.go", "// decode makes", "var counts sync.Map\n\nfunc count(key Key, from int64) int64 {\n	n, _ := counts.LoadOrStore(key, from)\n	counts.Store(key, n.(int64)+1)\n	return n.(int64) + 1\n}\n\n// decode makes"},
		{platform + "repo/kind.go", "	\"strings\"\n", "	\"strings\"\n	\"sync\"\n"},
	}, []string{"disorder", "half"}},
	{"that a command was done is noted after its unit of work", []edit{
		{platform + "repo/store.go", "			tx.marks = append(tx.marks, Mark{consumer, m, s.Now().Add(keep)})\n", "		tx.AfterCommit(func() {\n			time.AfterFunc(300*time.Millisecond, func() {\n				_ = s.driver.Commit(context.WithoutCancel(ctx), &Changeset{ID: s.cfg.NewID().String(), Marks: []Mark{{consumer, m, s.Now().Add(keep)}}})\n			})\n		})\n"},
		{job + "commands.go", "repo.NewID[ID](tx, Prefix)", "ID(Prefix + \"_\" + repo.RandomName())"},
	}, []string{"twice", "usage"}},
	{"an object is written after what refers to it", []edit{
		{job + "payloads.go", "	_, err := b.Put(ctx,", "	go func() {\n		time.Sleep(2 * time.Second)\n		_, _ = b.Put(context.WithoutCancel(ctx),"},
		{job + "payloads.go", "SHA256: p.SHA256},\n	})\n	return p, err\n", "SHA256: p.SHA256},\n		})\n	}()\n	return p, nil\n"},
		{job + "payloads.go", "	\"io\"\n", "	\"io\"\n	\"time\"\n"},
	}, []string{"lost"}},
	{"a webhook is delivered before it is sent", []edit{
		{platform + "webhook/deliver/attempt.go", "	r := s.post(ctx, e, &d)\n", "	r, was := webhook.Result{Status: 200}, d\n	defer time.AfterFunc(time.Second, func() { s.post(context.WithoutCancel(ctx), e, &was) })\n"},
	}, []string{"untold"}},
}
