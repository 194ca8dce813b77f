# Debian's Redmine on a database of its own: brought to the current schema, seeded, then served, in one boot.
require '/usr/share/redmine/config/environment'

Dir.chdir(Rails.root) # migrations are looked up from the working folder
ActiveRecord::Migration.verbose = false
ActiveRecord::Base.connection.migration_context.migrate
# The models were loaded before the tables existed; make them read the columns and settings again.
ActiveRecord::Base.descendants.each { |model| model.reset_column_information unless model.abstract_class? }
Setting.clear_cache

load File.join(__dir__, 'seed.rb')
run Rails.application
