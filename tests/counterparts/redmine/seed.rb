# An administrator, a user "jane", a public project "hub" she is a member of, and the REST API switched on.
# Writes both users' API keys as JSON to the file named by MOORING_SEED_KEYS.
require 'json'

Setting.rest_api_enabled = '1'
Redmine::DefaultData::Loader.load('en') if Redmine::DefaultData::Loader.no_data?

admin = User.find_by_login('admin')
admin.password = admin.password_confirmation = 'adminadmin1'
admin.must_change_passwd = false
admin.language = 'en'
admin.save!

jane = User.find_by_login('jane')
unless jane
  jane = User.new(firstname: 'Jane', lastname: 'Doe', mail: 'jane@example.test', language: 'en')
  jane.login = 'jane'
  jane.password = jane.password_confirmation = 'janejane1'
  jane.save!
end

hub = Project.find_by_identifier('hub') ||
      Project.create!(name: 'Hub', identifier: 'hub', is_public: true, trackers: Tracker.all)
unless hub.users.include?(jane)
  Member.create!(project: hub, principal: jane, roles: [Role.givable.first])
end

File.write(ENV.fetch('MOORING_SEED_KEYS'), JSON.generate(admin: admin.api_key, jane: jane.api_key), perm: 0o600)
