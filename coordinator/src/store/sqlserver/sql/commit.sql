-- One turn, as the procedure of the schema takes it. @P1: what every write shows. @P2: bytes. @P3: how often it changes who
-- is thrown out. From @P4 on: the rows of each table.
EXEC lull.take_turn @lead = @P1, @bytes = @P2, @revocations = @P3, @jobs_new = @P4, @jobs = @P5, @tasks = @P6, @attempts = @P7,
    @results = @P8, @answers_dropped = @P9, @answers = @P10, @snapshots = @P11, @logs = @P12, @idle_hours = @P13,
    @usage_hours = @P14, @work_hours = @P15, @totals = @P16, @agents = @P17, @audit = @P18;
