-- `segments` becomes a table partitioned by windows of 10 000 000 000 batch ids. At the first commit of a UTC day the
-- sequence of `batches` moves on to the next window. So a filter on batch_id reads one partition, and a day is dropped
-- at once.
--
-- The old table becomes the window [0, 10 000 000 000). No row is copied; one reading of the table checks its ids.
-- What users made on it (views, grants, publications, indexes, constraints, triggers) is made again on the new table.
-- What cannot be is named, and nothing is changed then.
--
-- One statement, so that it is done whole or not at all however it is executed.
DO $migration$
DECLARE
    old      oid := 'segments'::regclass;
    home     text := (SELECT quote_ident(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = old);
    version  int := current_setting('server_version_num')::int;
    carried  text[];    -- statements that make users' objects again, with their names in front
    one      record;
    refused  text;
    part     text;
    pair     text[];
    place    text;
BEGIN
    -- In the order of a commit, so that a reader of the version before waits and none of them is a victim.
    LOCK TABLE segments, batches IN ACCESS EXCLUSIVE MODE;

    ALTER TABLE batches ADD COLUMN expired_at timestamptz, ADD COLUMN retracted_at timestamptz;
    COMMENT ON COLUMN batches.expired_at IS 'when --retain took its rows of segments away; null: it did not';
    COMMENT ON COLUMN batches.retracted_at IS 'when its rows of segments were retracted; null: they were not';

    -- What hangs on the table and is not made again below.
    SELECT string_agg(what, ', ') INTO refused FROM (
        SELECT DISTINCT CASE WHEN rule.oid IS NULL OR rule.rulename <> '_RETURN' THEN pg_describe_object(d.classid, d.objid, 0)
            ELSE pg_describe_object('pg_class'::regclass, rule.ev_class, 0) END AS what
        FROM pg_depend d
        CROSS JOIN pg_class c
        JOIN pg_type t ON t.oid = c.reltype
        LEFT JOIN pg_rewrite rule ON d.classid = 'pg_rewrite'::regclass AND rule.oid = d.objid
        WHERE c.oid = old AND d.deptype = 'n'
            AND (d.refclassid, d.refobjid) IN (('pg_class'::regclass, old), ('pg_type'::regclass, t.oid),
                ('pg_type'::regclass, t.typarray))
            AND NOT (d.refclassid = 'pg_class'::regclass AND rule.oid IS NOT NULL AND rule.rulename = '_RETURN'
                AND EXISTS (SELECT FROM pg_class v WHERE v.oid = rule.ev_class AND v.relkind = 'v'))
            AND NOT EXISTS (SELECT FROM pg_constraint k
                WHERE d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.conrelid = old)
            AND NOT (d.classid = 'pg_trigger'::regclass
                AND EXISTS (SELECT FROM pg_trigger g WHERE g.oid = d.objid AND g.tgrelid = old))
            AND d.classid NOT IN ('pg_attrdef'::regclass, 'pg_statistic_ext'::regclass)
        UNION
        SELECT pg_describe_object('pg_policy'::regclass, oid, 0) FROM pg_policy WHERE polrelid = old
        UNION
        SELECT format('row-level security of %s', relname) FROM pg_class WHERE oid = old AND relrowsecurity
        UNION
        SELECT format('rule %s', rulename) FROM pg_rewrite WHERE ev_class = old
        UNION
        SELECT format('inheritance of %s', inhrelid::regclass) FROM pg_inherits WHERE old IN (inhrelid, inhparent)
        UNION
        SELECT format('replica identity by an index') FROM pg_class WHERE oid = old AND relreplident = 'i'
        UNION
        SELECT format('trigger %s, which is not enabled in the usual way', tgname) FROM pg_trigger
        WHERE tgrelid = old AND NOT tgisinternal AND tgenabled <> 'O'
        UNION
        SELECT format('publication %s, which belongs to another role', pubname) FROM pg_publication
        WHERE NOT pg_has_role(pubowner, 'USAGE')
            AND pubname IN (SELECT pubname FROM pg_publication_tables WHERE format('%I.%I', schemaname, tablename)::regclass = old)
        UNION
        SELECT format('publication %s, which publishes partitions of %s by their own names', pubname, tablename)
        FROM pg_publication_tables p
        WHERE EXISTS (SELECT FROM pg_class WHERE oid = format('%I.%I', schemaname, tablename)::regclass AND relispartition)
            AND pubname IN (SELECT pubname FROM pg_publication_tables WHERE format('%I.%I', schemaname, tablename)::regclass = old)
        UNION
        SELECT format('table %s.segments_0', home) WHERE to_regclass(format('%s.segments_0', home)) IS NOT NULL
    ) AS hanging;
    IF refused IS NOT NULL THEN
        -- The reader knows these words: see `postgres/tables.rs`.
        RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist',
            MESSAGE = format('segments becomes a partitioned table; cannot be carried over: %s', refused);
    END IF;

    -- How users' objects are made again. (The definitions name the table as it is called now.)
    SELECT array_agg(ARRAY[what, statement]) INTO carried FROM (
        SELECT 1 AS step, format('index %s', i.indexrelid::regclass) AS what, pg_get_indexdef(i.indexrelid) AS statement
        FROM pg_index i WHERE indrelid = old AND indisvalid
            AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid AND conrelid = old)
        UNION ALL
        SELECT 2, format('constraint %s', conname),
            format('ALTER TABLE %s.segments ADD CONSTRAINT %I %s', home, conname, pg_get_constraintdef(oid))
        FROM pg_constraint WHERE conrelid = old AND contype IN ('p', 'u', 'x', 'f')
        UNION ALL
        SELECT 3, format('trigger %s', tgname), pg_get_triggerdef(oid)
        FROM pg_trigger WHERE tgrelid = old AND NOT tgisinternal
        UNION ALL
        SELECT 4, format('view %s', v.oid::regclass), format('CREATE OR REPLACE VIEW %s%s AS %s', v.oid::regclass,
            ' WITH (' || array_to_string(v.reloptions, ', ') || ')', pg_get_viewdef(v.oid))
        FROM pg_class v WHERE relkind = 'v' AND oid IN (
            SELECT ev_class FROM pg_rewrite r JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid
            WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = old)
        UNION ALL
        SELECT 5, 'the comment', format('COMMENT ON TABLE %s.segments IS %L', home, obj_description(old, 'pg_class'))
        WHERE obj_description(old, 'pg_class') IS NOT NULL
        ORDER BY step
    ) AS objects;

    -- Publications go on to send the rows under the name of the table.
    FOR one IN SELECT pubname, EXISTS (SELECT FROM pg_publication_rel WHERE prpubid = p.oid AND prrelid = old) AS is_named, oid
        FROM pg_publication p WHERE pubname IN (
            SELECT pubname FROM pg_publication_tables WHERE format('%I.%I', schemaname, tablename)::regclass = old)
    LOOP
        part := '';
        IF version >= 150000 AND one.is_named THEN
            EXECUTE 'SELECT coalesce(''('' || (SELECT string_agg(quote_ident(attname), '', '' ORDER BY attnum)
                         FROM pg_attribute WHERE attrelid = prrelid AND attnum = ANY (prattrs)) || '')'', '''')
                     || coalesce('' WHERE ('' || pg_get_expr(prqual, prrelid) || '')'', '''')
                     FROM pg_publication_rel WHERE prpubid = $1 AND prrelid = $2' INTO part USING one.oid, old;
        END IF;
        EXECUTE format('ALTER PUBLICATION %I SET (publish_via_partition_root = true)', one.pubname);
        IF one.is_named THEN
            EXECUTE format('ALTER PUBLICATION %I DROP TABLE %s.segments', one.pubname, home);
            carried := carried || ARRAY[ARRAY[format('publication %s', one.pubname),
                format('ALTER PUBLICATION %I ADD TABLE %s.segments %s', one.pubname, home, part)]];
        END IF;
    END LOOP;

    -- The names are wanted for the new table.
    FOR one IN SELECT relname FROM pg_index JOIN pg_class c ON c.oid = indexrelid
        WHERE indrelid = old AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = c.oid AND conrelid = old)
    LOOP
        EXECUTE format('ALTER INDEX %s.%I RENAME TO %I', home, one.relname, left(one.relname, 60) || '_0');
    END LOOP;
    FOR one IN SELECT conname FROM pg_constraint WHERE conrelid = old AND contype IN ('p', 'u', 'x') LOOP
        EXECUTE format('ALTER TABLE segments RENAME CONSTRAINT %I TO %I', one.conname, left(one.conname, 60) || '_0');
    END LOOP;
    FOR one IN SELECT tgname FROM pg_trigger WHERE tgrelid = old AND NOT tgisinternal LOOP
        EXECUTE format('DROP TRIGGER %I ON segments', one.tgname);
    END LOOP;

    EXECUTE format('ALTER TABLE %s.segments RENAME TO segments_0', home);
    EXECUTE format('CREATE TABLE %1$s.segments (LIKE %1$s.segments_0 INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS)
                    PARTITION BY RANGE (batch_id)%2$s', home, (SELECT format(' TABLESPACE %I', spcname)
                        FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace WHERE c.oid = old));
    EXECUTE format('ALTER TABLE %s.segments OWNER TO %I', home,
        (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = old));

    -- When the window of today was begun: one row, which is also the lock of everybody who rolls or drops.
    EXECUTE format('CREATE TABLE IF NOT EXISTS %s.segments_day (
        only_row bool PRIMARY KEY DEFAULT true CHECK (only_row), window_no bigint NOT NULL, day timestamptz NOT NULL)', home);
    EXECUTE format('COMMENT ON TABLE %s.segments_day IS ''the window of segments in which new batches get their ids, and when it was begun''', home);
    EXECUTE format('ALTER TABLE %s.segments_day OWNER TO %I', home,
        (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = old));
    EXECUTE format('DELETE FROM %s.segments_day', home);
    EXECUTE format('INSERT INTO %1$s.segments_day (window_no, day)
        VALUES (0, now())', home);

    -- Who may use the table may use its windows.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_copy_grants(source oid, target oid) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT DISTINCT CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role
        FROM pg_class c, aclexplode(c.relacl) WHERE c.oid = target AND grantee <> relowner
    LOOP
        EXECUTE format('REVOKE ALL ON TABLE %%s FROM %%s', target::regclass, one.role);
    END LOOP;
    FOR one IN
        SELECT privilege_type || coalesce(' (' || quote_ident(column_name) || ')', '') AS what, target::regclass AS relation,
            CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END AS role,
            CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END AS option
        FROM (SELECT NULL::name AS column_name, a.* FROM pg_class c, aclexplode(c.relacl) a
              WHERE c.oid = source AND a.grantee <> c.relowner
              UNION ALL
              SELECT attname, a.* FROM pg_attribute t, aclexplode(t.attacl) a
              WHERE t.attrelid = source AND attnum > 0 AND NOT attisdropped) AS grants
    LOOP
        EXECUTE format('GRANT %%s ON TABLE %%s TO %%s%%s', one.what, one.relation, one.role, one.option);
    END LOOP;
END $body$ $define$, home);

    place := 'the rights';
    EXECUTE format('SELECT %1$s.rfm_copy_grants($1, ''%1$s.segments''::regclass)', home) USING old;
    BEGIN
        FOREACH pair SLICE 1 IN ARRAY carried LOOP
            place := pair[1];
            EXECUTE pair[2];
        END LOOP;
        IF (SELECT relreplident FROM pg_class WHERE oid = old) IN ('f', 'n') THEN
            EXECUTE format('ALTER TABLE %s.segments REPLICA IDENTITY %s', home,
                (SELECT CASE relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END FROM pg_class WHERE oid = old));
        END IF;
        place := 'batch ids below 0 or above 10000000000';
        -- With this constraint, ATTACH need not read the table once more.
        EXECUTE format('ALTER TABLE %s.segments_0 ADD CONSTRAINT rfm_window CHECK (batch_id >= 0 AND batch_id < 10000000000)', home);
        place := 'a constraint of segments';
        EXECUTE format('ALTER TABLE %1$s.segments ATTACH PARTITION %1$s.segments_0 FOR VALUES FROM (0) TO (10000000000)', home);
        EXECUTE format('ALTER TABLE %s.segments_0 DROP CONSTRAINT rfm_window', home);
    EXCEPTION WHEN feature_not_supported OR check_violation OR syntax_error_or_access_rule_violation THEN
        RAISE EXCEPTION USING ERRCODE = SQLSTATE,
            MESSAGE = format('segments becomes a partitioned table; cannot be carried over: %s (%s)', place, SQLERRM);
    END;

    -- The functions below work with the rights of the tables' owner, so that a reader that owns nothing can roll. They
    -- serve a role that may INSERT into `segments`, and none other.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_check_caller() RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    caller text := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    IF NOT (has_table_privilege(caller, '%1$s.segments', 'INSERT') OR has_any_column_privilege(caller, '%1$s.segments', 'INSERT'))
    THEN
        RAISE EXCEPTION USING ERRCODE = 'insufficient_privilege',
            MESSAGE = format('role %%s may not INSERT into segments', caller);
    END IF;
END $body$ $define$, home);

    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_partition_of_window(number bigint) RETURNS oid LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp AS $body$
    SELECT c.oid FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
    WHERE inhparent = '%1$s.segments'::regclass AND pg_get_expr(relpartbound, c.oid)
        = format('FOR VALUES FROM (%%L) TO (%%L)', number * 10000000000, (number + 1) * 10000000000)
$body$ $define$, home);

    -- The partition is made apart and attached, which blocks neither commits nor queries.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_prepare_window(number bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    named    text := format('%1$s.segments_%%s', number);
    parent   oid := '%1$s.segments'::regclass;
    identity "char" := (SELECT relreplident FROM pg_class WHERE oid = parent);
BEGIN
    PERFORM %1$s.rfm_check_caller();
    PERFORM FROM %1$s.segments_day FOR UPDATE;
    IF %1$s.rfm_partition_of_window(number) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- Somebody may have detached the partition that had this name.
    WHILE to_regclass(named) IS NOT NULL LOOP
        named := named || '_again';
    END LOOP;
    EXECUTE format('CREATE TABLE %%s (LIKE %1$s.segments INCLUDING ALL EXCLUDING STATISTICS)%%s', named,
        (SELECT format(' TABLESPACE %%I', spcname) FROM pg_class c JOIN pg_tablespace s ON s.oid = c.reltablespace
         WHERE c.oid = parent));
    PERFORM %1$s.rfm_copy_grants(parent, named::regclass::oid);
    IF identity IN ('f', 'n') THEN
        EXECUTE format('ALTER TABLE %%s REPLICA IDENTITY %%s', named, CASE identity WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END);
    END IF;
    EXECUTE format('ALTER TABLE %1$s.segments ATTACH PARTITION %%s FOR VALUES FROM (%%s) TO (%%s)', named,
        number * 10000000000, (number + 1) * 10000000000);
    RETURN true;
END $body$ $define$, home);

    -- The window of the next id, the one to begin (null while the day of the last one lasts), and whether the first has a
    -- partition. A clock that goes back begins nothing.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_window(length interval, OUT current bigint, OUT next bigint, OUT is_there boolean)
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    begun record;
    span  numeric := extract(epoch FROM length);
BEGIN
    PERFORM %1$s.rfm_check_caller();
    -- A day that is far ahead is from a clock that was wrong. The window stays, and today is its day.
    UPDATE %1$s.segments_day SET day = clock_timestamp() WHERE day > clock_timestamp() + 2 * length;
    SELECT window_no, day INTO begun FROM %1$s.segments_day;
    current := (SELECT (last_value + is_called::int) / 10000000000 FROM %1$s.batches_id_seq);
    is_there := %1$s.rfm_partition_of_window(current) IS NOT NULL;
    IF begun.day IS NULL THEN
        -- Somebody emptied the table.
        next := current + 1;
    ELSIF floor(extract(epoch FROM clock_timestamp()) / span) > floor(extract(epoch FROM begun.day) / span) THEN
        -- Where the sequence has moved already, whoever moved it died before it was noted.
        next := greatest(current, begun.window_no + 1);
    END IF;
END $body$ $define$, home);

    -- The sequence only moves forward, and only into a window whose partition is committed.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_enter_window(number bigint, length interval) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    PERFORM %1$s.rfm_check_caller();
    PERFORM FROM %1$s.segments_day FOR UPDATE;
    -- Another reader may have been faster.
    IF number IS DISTINCT FROM (SELECT next FROM %1$s.rfm_window(length))
        OR %1$s.rfm_partition_of_window(number) IS NULL
    THEN
        RETURN false;
    END IF;
    IF (SELECT last_value FROM %1$s.batches_id_seq) < number * 10000000000 THEN
        PERFORM setval('%1$s.batches_id_seq', number * 10000000000);
    END IF;
    INSERT INTO %1$s.segments_day (window_no, day) VALUES (number, clock_timestamp())
        ON CONFLICT (only_row) DO UPDATE SET window_no = excluded.window_no, day = excluded.day;
    RETURN true;
END $body$ $define$, home);

    -- Whether every batch of a window is expired or retracted. A window without batches must be empty.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_is_over(number bigint) RETURNS boolean LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    is_empty boolean;
BEGIN
    IF number >= (SELECT last_value / 10000000000 FROM %1$s.batches_id_seq) THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM %1$s.batches WHERE id >= number * 10000000000 AND id < (number + 1) * 10000000000
        AND expired_at IS NULL AND retracted_at IS NULL)
    THEN
        RETURN false;
    END IF;
    IF EXISTS (SELECT FROM %1$s.batches WHERE id >= number * 10000000000 AND id < (number + 1) * 10000000000) THEN
        RETURN true;
    END IF;
    EXECUTE format('SELECT NOT EXISTS (SELECT FROM %%s)', %1$s.rfm_partition_of_window(number)::regclass) INTO is_empty;
    RETURN is_empty;
END $body$ $define$, home);

    -- Makes VACUUM, autovacuum and ANALYZE keep off a window until the end of the transaction. Neither commits nor queries
    -- wait for that. Postgres cancels an autovacuum (but for one that prevents wraparound) that somebody has waited for
    -- for deadlock_timeout. So this wait, and it alone, is longer than that.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_hold_window(number bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $body$
DECLARE
    part oid := %1$s.rfm_partition_of_window(number);
BEGIN
    PERFORM %1$s.rfm_check_caller();
    PERFORM set_config('lock_timeout', least(setting::int + 1000, 10000)::text, true)
        FROM pg_settings WHERE name = 'deadlock_timeout';
    IF part IS NOT NULL THEN
        EXECUTE format('LOCK TABLE ONLY %%s IN SHARE UPDATE EXCLUSIVE MODE', part::regclass);
    END IF;
EXCEPTION WHEN undefined_table THEN
    -- Another reader has dropped it meanwhile.
    NULL;
END $body$ $define$, home);

    -- Drops the partition of a window that is over. It looks again once it has the locks: a commit that had begun before
    -- has then ended. (So every statement must see what was committed before it: READ COMMITTED.) Commits queue behind
    -- these locks, so they are waited for as long as the caller says. `rfm_hold_window` comes first, and before any other
    -- lock, since it may wait longer.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_drop_window(number bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    part oid;
BEGIN
    PERFORM %1$s.rfm_check_caller();
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a window is dropped in READ COMMITTED only';
    END IF;
    PERFORM FROM %1$s.segments_day FOR UPDATE;
    part := %1$s.rfm_partition_of_window(number);
    IF part IS NULL OR NOT %1$s.rfm_is_over(number) THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE ONLY %1$s.segments, ONLY %%s IN ACCESS EXCLUSIVE MODE', part::regclass);
    IF NOT %1$s.rfm_is_over(number) THEN
        RETURN false;
    END IF;
    EXECUTE format('DROP TABLE %%s', part::regclass);
    RETURN true;
END $body$ $define$, home);

    -- A BRIN index does not cover the pages that were filled since the last VACUUM. This makes it cover them, unless a
    -- VACUUM is about to.
    EXECUTE format($define$
CREATE OR REPLACE FUNCTION %1$s.rfm_summarize_window(number bigint) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    PERFORM %1$s.rfm_check_caller();
    RETURN (SELECT sum(brin_summarize_new_values(i.indexrelid))
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = %1$s.rfm_partition_of_window(number) AND a.amname = 'brin');
EXCEPTION WHEN lock_not_available THEN
    RETURN NULL;
END $body$ $define$, home);

    -- They belong to the owner of the tables, whoever executes this.
    FOR one IN SELECT p.oid::regprocedure AS signature FROM pg_proc p
        WHERE p.pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = old) AND p.proname IN ('rfm_copy_grants',
            'rfm_check_caller', 'rfm_partition_of_window', 'rfm_prepare_window', 'rfm_window', 'rfm_enter_window',
            'rfm_is_over', 'rfm_hold_window', 'rfm_drop_window', 'rfm_summarize_window')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO %I', one.signature,
            (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = old));
    END LOOP;
END $migration$;
